"""Final weights of releases with made-up interviews go: none are kept of them any more."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "DELETE FROM final_weight WHERE EXISTS (SELECT 1 FROM release r WHERE r.wave = final_weight.wave"
        " AND r.version = final_weight.version AND r.caution LIKE 'Demonstration: made-up answers.%')"
    )
