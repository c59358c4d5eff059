"""What each interview weighs in the figures of a release."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "final_weight",
        sa.Column("interview", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("block", sa.Text(), nullable=False),
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["wave", "version"], ["release.wave", "release.version"]),
        sa.PrimaryKeyConstraint("interview", "version", "block"),
    )
    op.create_index("final_weight_release", "final_weight", ["wave", "version"], unique=False)
