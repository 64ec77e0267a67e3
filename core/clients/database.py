"""The database, as two verbs: `read` and `write` run a function with a SQLAlchemy connection in one transaction.

The function is synchronous and short, and does nothing but SQL. With SQLite it runs in a thread that keeps its
connection: one hop for a whole transaction, where an async driver needs one for each statement (docs/adr/0002).
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from core.errors import DependencyUnavailable

Result = TypeVar("Result")

READERS = 4
BUSY_TIMEOUT_SECONDS = 10

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def make_sqlite_engine(path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> Engine:
    """WAL, so that readers never wait for the writer; foreign keys on; transactions begun by us alone."""
    engine = create_engine(
        sqlite_url(path),
        poolclass=NullPool,
        hide_parameters=True,  # an error's text goes to the log, and prompts do not
        connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver would begin transactions by itself, and too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads and then writes must take the write lock at once, or it fails as "locked".
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


class Database:
    """SQLite in a file: one writing thread and a few reading ones in each process.

    A write that other processes keep from its turn for `busy_timeout_seconds` fails.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self._engine = make_sqlite_engine(path, busy_timeout_seconds)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._local = threading.local()
        self._connections: list[Connection] = []

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a read transaction. Raises DependencyUnavailable when the database fails."""
        return await self._run(self._readers, work, immediate=False)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a write transaction, committed at its end, rolled back when it raises.

        Raises IntegrityError for a row that breaks a constraint, else as `read`.
        """
        return await self._run(self._writer, work, immediate=True)

    async def close(self) -> None:
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        for connection in self._connections:
            connection.close()
        self._engine.dispose()

    async def _run(
        self, executor: ThreadPoolExecutor, work: Callable[[Connection], Result], *, immediate: bool
    ) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(executor, self._transact, work, immediate)
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise DependencyUnavailable("database", str(error.orig)) from error

    def _transact(self, work: Callable[[Connection], Result], immediate: bool) -> Result:
        connection = self._thread_connection(immediate)
        try:
            with connection.begin():
                return work(connection)
        except IntegrityError:
            raise
        except DBAPIError:
            # It may keep what it has read of a file that was broken: the next transaction opens another.
            self._local.connection = None
            self._connections.remove(connection)
            connection.invalidate()
            connection.close()
            raise

    def _thread_connection(self, immediate: bool) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._engine.connect().execution_options(immediate=immediate)
            self._local.connection = connection
            self._connections.append(connection)
        return connection
