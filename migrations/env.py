"""What Alembic runs for an upgrade, on the connection that `migrations.upgrade` opened."""

from typing import Any

from alembic import context
from sqlalchemy import Connection, String
from sqlalchemy.ext.compiler import compiles


@compiles(String, "postgresql")
def bytewise(kind: String, compiler: Any, **keywords: Any) -> str:
    """Ids and names compare by their bytes, as in SQLite, whatever the database's own language.

    An index by the rules of a language also breaks when the operating system changes these, and lower() would differ.
    """
    return f'{compiler.visit_string(kind, **keywords)} COLLATE "C"'


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        transactional_ddl=True,  # `upgrade()` has begun a transaction, with SQLite too
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
