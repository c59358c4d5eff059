"""When a worker took a question of staff or of the API, so that one that is being answered is left alone."""

import sqlalchemy as sa
from alembic import op

from storage.models import Moment

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("query_log", sa.Column("taken_at", Moment(), nullable=True))
