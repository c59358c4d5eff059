"""What we send: messages, the reports on them, and the sealed directory."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("respondent", sa.Column("opted_in_at", Moment(), nullable=True))
    op.create_table(
        "outbound_message",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("natural_key", sa.Text(), nullable=False),
        sa.Column("wave", sa.Text(), nullable=True),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("interview", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("aggregator", sa.Text(), nullable=False),
        sa.Column("network_code", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("not_before", Moment(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_at", Moment(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("status_raw", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("parts", sa.Integer(), nullable=True),
        sa.Column("cost_amount", sa.Text(), nullable=True),
        sa.Column("cost_currency", sa.Text(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.Column("final_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["respondent"], ["respondent.pseudonym"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("natural_key"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("outbound_message_due", "outbound_message", ["state", "not_before"], unique=False)
    op.create_index("outbound_message_message", "outbound_message", ["message_id"], unique=False)
    op.create_index("outbound_message_respondent", "outbound_message", ["respondent"], unique=False)
    op.create_table(
        "delivery_report",
        sa.Column("aggregator", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("network_code", sa.Text(), nullable=True),
        sa.Column("respondent", sa.Text(), nullable=True),
        sa.Column("known", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("aggregator", "message_id"),
    )
    op.create_table(
        "directory",
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("added_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["respondent"], ["respondent.pseudonym"]),
        sa.PrimaryKeyConstraint("respondent"),
    )
