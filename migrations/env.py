"""What Alembic runs for an upgrade, on the connection that `migrations.upgrade` opened."""

from alembic import context
from sqlalchemy import Connection


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        transactional_ddl=True,  # `upgrade()` has begun a transaction, with SQLite too
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
