"""The operator's word on whether a wave is open."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "wave_word",
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("said_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("wave"),
    )
