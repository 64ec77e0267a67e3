"""Brings a database to the newest revision."""

from importlib import import_module
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import NullPool

from migrations.head import GIVEN, UnknownRevision

# Any number will do, so long as every version of this code locks the same one.
UPGRADE_LOCK = 6_214_903_377
# How long an upgrade of SQLite waits for another one, or for a writer.
LOCK_TIMEOUT_SECONDS = 60


def migration_config() -> Config:
    """Alembic's configuration, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(database_url: str) -> None:
    """Upgrade to the head in one transaction; several callers at once wait for each other.

    `database_url` is sqlite:/// or postgresql://. Raises UnknownRevision for a database of another version, and
    DatabaseUnusable.
    """
    if database_url.startswith("sqlite:"):
        _upgrade_sqlite(make_url(database_url))
    else:
        # Its driver is not imported where it is not used.
        import_module("migrations.postgresql").run(database_url, _upgrade_postgresql)


def _upgrade_sqlite(url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.begin() as connection:
            _upgrade(connection, str(url))
    finally:
        engine.dispose()


def _upgrade_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
    _upgrade(connection, GIVEN)


def _upgrade(connection: Connection, database: str) -> None:
    config = migration_config()
    _check_known(connection, config, database)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check_known(connection: Connection, config: Config, database: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for revision in MigrationContext.configure(connection).get_current_heads():
        if revision not in known:
            raise UnknownRevision(database, revision)


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # Left to itself the driver commits before each DDL statement, so that a failed upgrade would stay half done.
    # Foreign keys stay off: Alembic rebuilds a table by dropping it, which would delete the rows that point to it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
