"""An interview's answers as one text, so that a table over a million of them is one scan."""

import sqlalchemy as sa
from alembic import op

from storage.marks import restore_marks

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("interview", sa.Column("marks", sa.Text(), nullable=True))
    restore_marks(op.get_bind())
