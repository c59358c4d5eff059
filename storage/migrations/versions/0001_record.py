"""The record as first released: respondents, interviews, responses, sessions, events, codebooks."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "instrument",
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("reference"),
    )
    op.create_table(
        "respondent",
        sa.Column("pseudonym", sa.Text(), nullable=False),
        sa.Column("first_seen_at", Moment(), nullable=False),
        sa.Column("opted_out_at", Moment(), nullable=True),
        sa.Column("consented_at", Moment(), nullable=True),
        sa.Column("consent_version", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("pseudonym"),
    )
    op.create_table(
        "codebook_item",
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False),
        sa.Column("block", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("attribute", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument"],
            ["instrument.reference"],
        ),
        sa.PrimaryKeyConstraint("instrument", "item"),
    )
    op.create_table(
        "codebook_option",
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("option", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("iso", sa.Text(), nullable=False),
        sa.Column("nonresponse", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument"],
            ["instrument.reference"],
        ),
        sa.PrimaryKeyConstraint("instrument", "item", "option"),
    )
    op.create_table(
        "conflict",
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("interview", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["respondent"],
            ["respondent.pseudonym"],
        ),
        sa.PrimaryKeyConstraint("session", "respondent", "at", "what"),
    )
    op.create_table(
        "interview",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=True),
        sa.Column("aggregator", sa.Text(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("blocks", sa.Text(), nullable=True),
        sa.Column("probabilities", sa.Text(), nullable=True),
        sa.Column("item_order", sa.Text(), nullable=True),
        sa.Column("began_at", Moment(), nullable=False),
        sa.Column("last_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("disposition", sa.Text(), nullable=False),
        sa.Column("last_item", sa.Text(), nullable=False),
        sa.Column("last_stage", sa.Text(), nullable=False),
        sa.Column("consented_at", Moment(), nullable=True),
        sa.Column("consent_version", sa.Text(), nullable=True),
        sa.Column("withdrawn_at", Moment(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("language_version", sa.BigInteger(), nullable=False),
        sa.Column("consented_version", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_at", Moment(), nullable=True),
        sa.Column("outcome_version", sa.BigInteger(), nullable=False),
        sa.Column("answered_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["respondent"],
            ["respondent.pseudonym"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("respondent", "wave", "attempt", name="interview_attempt"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("interview_began_at", "interview", ["began_at"], unique=False)
    op.create_table(
        "session",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("aggregator", sa.Text(), nullable=True),
        sa.Column("network_code", sa.Text(), nullable=True),
        sa.Column("service_code", sa.Text(), nullable=True),
        sa.Column("extension", sa.Text(), nullable=True),
        sa.Column("opened_at", Moment(), nullable=True),
        sa.Column("last_at", Moment(), nullable=True),
        sa.Column("hops", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("hops_reported", sa.BigInteger(), nullable=True),
        sa.Column("cost", sa.Text(), nullable=True),
        sa.Column("cost_currency", sa.Text(), nullable=True),
        sa.Column("cost_amount", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["respondent"],
            ["respondent.pseudonym"],
        ),
        sa.PrimaryKeyConstraint("id", "respondent"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "event",
        sa.Column("interview", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["interview"],
            ["interview.id"],
        ),
        sa.PrimaryKeyConstraint("interview", "version", "position"),
    )
    op.create_table(
        "response",
        sa.Column("interview", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("option", sa.Text(), nullable=True),
        sa.Column("code", sa.BigInteger(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("given_at", Moment(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("retracted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["interview"],
            ["interview.id"],
        ),
        sa.PrimaryKeyConstraint("interview", "item"),
    )
