"""Released figures for SQL and the results API, and responses in the order of answering."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("response_given_at", "response", ["given_at"])
    op.create_table(
        "release",
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("issued", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("contact", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("weighted", sa.Boolean(), nullable=False),
        sa.Column("probability_sample", sa.Boolean(), nullable=False),
        sa.Column("caution", sa.Text(), nullable=False),
        sa.Column("interviews", sa.BigInteger(), nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("wave", "version"),
    )
    op.create_table(
        "released_estimate",
        sa.Column("wave", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("period", "service", "measure", "variable", "category", "variable_2", "category_2")
        ),
        sa.Column("n", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.Float(), nullable=True) for name in ("share", "se", "low", "high")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=True)
            for name in ("not_applicable", "dont_know", "refused", "not_reached")
        ),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["wave", "version"], ["release.wave", "release.version"]),
        sa.PrimaryKeyConstraint("wave", "version", "position"),
    )
