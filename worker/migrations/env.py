"""Alembic's door: runs the migrations on the connection that `worker.schema` hands in."""

from alembic import context
from sqlmodel import SQLModel

import worker.database  # noqa: F401 - the tables register themselves

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
