"""SQLite in a file. A transaction runs in a thread that keeps its connection: one hop for a whole transaction, where an
async driver needs one for each statement (docs/adr/0002).
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, Select, create_engine, event, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from core.clients.database import Database, Prepared, Result, RowsAndTotal
from core.clients.sqlite_turns import LOOK_SECONDS, Turns
from core.errors import DependencyUnavailable

READERS = 4
BUSY_TIMEOUT_SECONDS = 10
# Of SQLite's virtual machine, at least this and at most twice as many: a page of history needs some 3,000, and 20,000
# take about a quarter of a millisecond.
INLINE_INSTRUCTIONS = 20_000
# After a statement that was too long, so that trying costs next to nothing where most are.
INLINE_PAUSE_SECONDS = 1.0


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
        if connection.get_execution_options().get("immediate"):
            _begin_immediate(connection, busy_timeout_seconds)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_immediate(connection: Connection, seconds: float) -> None:
    """Wait for the turn to write, and look for it often.

    SQLite itself sleeps for longer each time that it finds somebody else writing, up to 100 ms, while a transaction of
    ours takes less than one.
    """
    driver, until = _driver_of(connection), time.monotonic() + seconds
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    break
            else:
                return
            time.sleep(LOOK_SECONDS)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # what is wrong is told as for each other statement
    finally:
        driver.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")


class SQLiteDatabase(Database):
    """One writing thread and a few reading ones in each process.

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
        self._turns = Turns(path.with_name(f"{path.name}-turns"))

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        return await self._run(self._readers, self._read, work)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        return await self._run(self._writer, self._write, work)

    def prepared(self, total: ColumnElement[int], rows: Select[Any]) -> Prepared:
        """Its one row has the rows as one JSON text: for each row that SQLite hands over it lets go of the interpreter
        and waits to have it back, and with one for all of them a busy process answers twice as many pages
        (docs/adr/0005).
        """
        listed = select(func.json_group_array(func.json_array(*rows.subquery().c))).scalar_subquery()
        return Prepared(str(select(total, listed).compile(dialect=self._named)))

    async def page(self, statement: Prepared, values: Mapping[str, Any]) -> RowsAndTotal:
        """On the event loop as long as it is done within INLINE_INSTRUCTIONS, a fraction of a millisecond, else in a
        thread: handing a thread the interpreter and taking it back costs a multiple of reading twenty rows.
        """
        total, rows = await self._row(statement.text, values)
        return RowsAndTotal(total, orjson.loads(rows))

    async def close(self) -> None:
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        self._drop_inline()
        for connection in self._connections:
            connection.close()
        self._engine.dispose()
        self._turns.close()

    async def _row(self, statement: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
        if self._inline_again_at <= time.monotonic():
            try:
                return self._inline_row(statement, values)
            except (sqlite3.Error, DBAPIError):
                # Too long, or an error, which the thread will meet again and tell of.
                self._inline_again_at = time.monotonic() + INLINE_PAUSE_SECONDS
                self._drop_inline()
        return await self._run(self._readers, self._fetch, statement, values)

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
        except OSError as error:
            raise DependencyUnavailable("database", error.strerror or "its folder cannot be written") from error

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

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        with self._kept_while_sound(self._thread_connection(immediate=False)) as connection, connection.begin():
            return work(connection)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        with self._kept_while_sound(self._thread_connection(immediate=True)) as connection:
            self._turns.let_others_go_first()
            with self._turns.waiting():
                transaction = connection.begin()
            with transaction:
                result = work(connection)
            self._turns.ended()
            return result

    @contextlib.contextmanager
    def _kept_while_sound(self, connection: Connection) -> Iterator[Connection]:
        try:
            yield connection
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
