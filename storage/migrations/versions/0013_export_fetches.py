"""Who fetched which export, and when."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "export_fetch",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("export", sa.Text(), nullable=False),
        sa.Column("fetched_at", Moment(), nullable=False),
        sa.Column("fetched_by", sa.Text(), nullable=False),
        sa.Column("part", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["export"], ["export_audit.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("export_fetch_export", "export_fetch", ["export"])
