"""Alembic's entry: runs the versions on the connection and in the transaction that `migrate` opened."""

from alembic import context
from sqlmodel import SQLModel

import storage.models  # noqa: F401  (its tables are the target)

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
