"""Who asked for a text with the results once they are out."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "results_wanted",
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("respondent", sa.Text(), nullable=False),
        sa.Column("interview", sa.Text(), nullable=False),
        sa.Column("asked_at", Moment(), nullable=False),
        sa.Column("written_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["respondent"], ["respondent.pseudonym"]),
        sa.PrimaryKeyConstraint("wave", "respondent"),
    )
    op.create_index("results_wanted_respondent", "results_wanted", ["respondent"], unique=False)
