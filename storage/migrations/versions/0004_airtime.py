"""Airtime for who completed: payments, budgets, and what aggregators said about them."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "airtime_payment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("interview", sa.Text(), nullable=False),
        sa.Column("aggregator", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("not_before", Moment(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("status_raw", sa.Text(), nullable=True),
        sa.Column("earned_at", Moment(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("claimed_at", Moment(), nullable=True),
        sa.Column("updated_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["respondent"], ["respondent.pseudonym"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("wave", "respondent", name="airtime_once"),
    )
    op.create_index("airtime_due", "airtime_payment", ["state", "not_before"], unique=False)
    op.create_index("airtime_respondent", "airtime_payment", ["respondent"], unique=False)
    op.create_index("airtime_request", "airtime_payment", ["request_id"], unique=False)
    op.create_index("airtime_transaction", "airtime_payment", ["transaction_id"], unique=False)
    op.create_table(
        "airtime_budget",
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("budget", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("wave", "currency"),
    )
    op.create_table(
        "airtime_report",
        sa.Column("aggregator", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("aggregator", "kind", "reference", "status"),
    )
    op.create_index("airtime_report_respondent", "airtime_report", ["respondent"], unique=False)
    complete = sa.text("disposition = 'complete'")  # few rows, and only the last hop moves one in
    op.create_index(
        "interview_complete", "interview", ["wave", "ended_at"], unique=False,
        postgresql_where=complete, sqlite_where=complete,
    )  # fmt: skip
