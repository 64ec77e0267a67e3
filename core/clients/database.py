"""The database, as two verbs: `read` and `write` run a function with a SQLAlchemy connection in one transaction.

The function is synchronous and short, and does nothing but SQL. With SQLite it runs in a thread that keeps its
connection: one hop for a whole transaction, where an async driver needs one for each statement (docs/adr/0002).
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, Select, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from core.errors import DependencyUnavailable

Result = TypeVar("Result")

READERS = 4
BUSY_TIMEOUT_SECONDS = 10
# Of SQLite's virtual machine, at least this and at most twice as many: a page of history needs some 3,000, and 20,000
# take about a quarter of a millisecond.
INLINE_INSTRUCTIONS = 20_000
# After a statement that was too long, so that trying costs next to nothing where most are.
INLINE_PAUSE_SECONDS = 1.0

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
        self._named = sqlite.dialect(paramstyle="named")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._inline: Connection | None = None
        self._inline_again_at = 0.0
        self._inline_ticks = 0

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a read transaction. Raises DependencyUnavailable when the database fails."""
        return await self._run(self._readers, self._transact, work, False)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a write transaction, committed at its end, rolled back when it raises.

        Raises IntegrityError for a row that breaks a constraint, else as `read`.
        """
        return await self._run(self._writer, self._transact, work, True)

    def compiled(self, statement: Select[Any]) -> str:
        """For `row`: the text of a statement, its values by name."""
        return str(statement.compile(dialect=self._named))

    async def row(self, statement: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The one row of one short statement that is asked for often. Raises as `read`.

        It sees one state of the database by itself, so no transaction is needed around it. It runs on the event loop as
        long as it is done within INLINE_INSTRUCTIONS, a fraction of a millisecond, else in a thread: handing a thread
        the interpreter and taking it back costs a multiple of reading twenty rows (docs/adr/0005).
        """
        if self._inline_again_at <= time.monotonic():
            try:
                return self._inline_row(statement, values)
            except (sqlite3.Error, DBAPIError):
                # Too long, or an error, which the thread will meet again and tell of.
                self._inline_again_at = time.monotonic() + INLINE_PAUSE_SECONDS
                self._drop_inline()
        return await self._run(self._readers, self._fetch, statement, values)

    async def close(self) -> None:
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        self._drop_inline()
        for connection in self._connections:
            connection.close()
        self._engine.dispose()

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, work: Callable[..., Result], *args: Any) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work, *args)
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise DependencyUnavailable("database", str(error.orig)) from error
        except sqlite3.Error as error:
            raise DependencyUnavailable("database", str(error)) from error

    def _inline_row(self, statement: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._inline is None:
            self._inline = self._engine.connect()
            driver = _driver_of(self._inline)
            driver.execute("PRAGMA busy_timeout=0")
            driver.set_progress_handler(self._goes_on_too_long, INLINE_INSTRUCTIONS)
        self._inline_ticks = 0
        row: tuple[Any, ...] = _driver_of(self._inline).execute(statement, values).fetchone()
        return row

    def _drop_inline(self) -> None:
        """It may keep what it has read of a file that was broken."""
        if self._inline is not None:
            self._inline.invalidate()
            self._inline.close()
            self._inline = None

    def _goes_on_too_long(self) -> bool:
        # SQLite counts on from where a statement that is kept ended the last time, so the first tick may come at once.
        self._inline_ticks += 1
        return self._inline_ticks > 1

    def _fetch(self, statement: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
        connection = self._thread_connection(immediate=False)
        try:
            row: tuple[Any, ...] = _driver_of(connection).execute(statement, values).fetchone()
        except sqlite3.Error:
            self._drop(connection)
            raise
        return row

    def _transact(self, work: Callable[[Connection], Result], immediate: bool) -> Result:
        connection = self._thread_connection(immediate)
        try:
            with connection.begin():
                return work(connection)
        except IntegrityError:
            raise
        except DBAPIError:
            self._drop(connection)
            raise

    def _drop(self, connection: Connection) -> None:
        """It may keep what it has read of a file that was broken: the next transaction opens another."""
        self._local.connection = None
        self._connections.remove(connection)
        connection.invalidate()
        connection.close()

    def _thread_connection(self, immediate: bool) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._engine.connect().execution_options(immediate=immediate)
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def _driver_of(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
