"""PostgreSQL over asyncpg: a transaction runs on the event loop, in a greenlet of SQLAlchemy (docs/adr/0007).

Imported only where DATABASE_URL is set.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    select,
    true,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import greenlet_spawn

from core.clients.database import Database, Prepared, Result, RowsAndTotal
from core.clients.postgresql_readers import Readers
from core.errors import DependencyUnavailable

# Of PostgreSQL's default max_connections of 100, three are for superusers; the rest is for migrations, backups, people.
SHARED_CONNECTIONS = 80
MOST_CONNECTIONS = 10
WORKERS = 1
# A transaction that died with its connection, or lost to another one, is run again.
TRIES = 5
PAUSE_SECONDS = 0.01
_LOST_TO_ANOTHER = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_SCHEMA_CHANGED = {"0A000"}  # under a statement that is kept prepared; it is prepared anew then
_DATA_EXCEPTION = "22"
_CONNECTION_ERRORS = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
)
_DRIVER_ERRORS = (PoolTimeout, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(frozen=True)
class Connections:
    """How many one process may hold, for transactions and for single statements."""

    transactions: int
    readers: int

    @classmethod
    def of(cls, api_processes: int) -> "Connections":
        """Those of all API processes and a worker stay within 80, up to 39 of them; each has at least two and at most
        ten.
        """
        together = max(2, min(MOST_CONNECTIONS, SHARED_CONNECTIONS // (api_processes + WORKERS)))
        readers = together // 2
        return cls(together - readers, readers)


@dataclass(frozen=True)
class Patience:
    """How many seconds may go by until a free connection is there, until a new one is, and for a statement with its
    wait for locks; with the usual ones a caller is told within a few seconds. `statement` 0: as long as it takes.
    """

    pool: float = 5
    connect: float = 3
    statement: int = 5


USUAL = Patience()


def connector(url: str, patience: Patience) -> Callable[[], Awaitable[asyncpg.Connection]]:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            url,
            timeout=patience.connect,
            # For a server that does not even say that the time of a statement is over.
            command_timeout=patience.statement + 1 if patience.statement else None,
            server_settings={
                "application_name": "nano-banana-lab",
                "statement_timeout": f"{patience.statement}s",
                "idle_in_transaction_session_timeout": f"{patience.statement}s",
            },
        )

    return connect


def make_engine(url: str, patience: Patience, **pool: Any) -> Engine:
    """For greenlets (`greenlet_spawn`). Its own address is empty, so that no text of it holds the password."""
    connect = connector(url, patience)

    def creator() -> DBAPIConnection:
        assert engine.dialect.dbapi is not None
        connection: DBAPIConnection = engine.dialect.dbapi.connect(async_creator_fn=connect)
        return connection

    engine = create_engine(
        "postgresql+asyncpg://",
        creator=creator,
        hide_parameters=True,  # an error's text goes to the log, and prompts do not
        **pool,
    )
    return engine


@dataclass
class _Attempt:
    """`committing`: from here on nobody knows whether a transaction stands, if its connection is lost."""

    committing: bool = False


class PostgreSQLDatabase(Database):
    """A pool of a few connections in each process, opened when they are needed.

    What does not get one in time fails. A write whose connection is lost while it is being committed fails
    too, and may stand all the same.
    """

    def __init__(self, url: str, api_processes: int, patience: Patience = USUAL) -> None:
        most = Connections.of(api_processes)
        self._engine = make_engine(
            url, patience, pool_size=most.transactions, max_overflow=0, pool_timeout=patience.pool
        )
        event.listen(self._engine, "checkout", _refuse_closed)
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._readers = Readers(connector(url, patience), most.readers, patience.pool)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        return await self._run(lambda attempt: self._transact(self._reading, work, attempt))

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        return await self._run(lambda attempt: self._transact(self._engine, work, attempt))

    def prepared(self, total: ColumnElement[int], rows: Select[Any]) -> Prepared:
        """The total stands in each row, and alone where there are none."""
        counted, listed = select(total.label("total")).subquery(), rows.subquery()
        joined = counted.outerjoin(listed, true())
        compiled = select(counted.c.total, *listed.c).select_from(joined).compile(dialect=self._engine.dialect)
        assert isinstance(compiled, SQLCompiler)
        return Prepared(str(compiled), tuple(compiled.positiontup or ()))

    async def page(self, statement: Prepared, values: Mapping[str, Any]) -> RowsAndTotal:
        """One message there and one back, without a transaction around it."""
        given = [values[name] for name in statement.names]
        found = await self._run(lambda _attempt: self._readers.rows(statement.text, given))
        total, first_of_page = found[0][:2]
        return RowsAndTotal(total, [] if first_of_page is None else [row[1:] for row in found])

    async def close(self) -> None:
        await self._readers.close()
        await greenlet_spawn(self._engine.dispose)

    @staticmethod
    async def _transact(engine: Engine, work: Callable[[Connection], Result], attempt: _Attempt) -> Result:
        def whole() -> Result:
            with engine.connect() as connection, _dropped_when_unusable(connection):
                result = work(connection)
                attempt.committing = True
                connection.commit()
                return result

        return await greenlet_spawn(whole)

    async def _run(self, once: Callable[[_Attempt], Awaitable[Result]]) -> Result:
        for left in reversed(range(TRIES)):
            attempt = _Attempt()
            try:
                return await once(attempt)
            except (DBAPIError, *_DRIVER_ERRORS) as error:
                if not left or attempt.committing or not _may_be_tried_again(error):
                    raise _as_ours(error) from None
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
        raise AssertionError("the last attempt returns or raises")


def _refuse_closed(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    """A server that was restarted has closed all connections; the driver knows without asking it."""
    driver = record.driver_connection
    assert isinstance(driver, asyncpg.Connection)
    if driver.is_closed():
        raise InvalidatePoolError


@contextmanager
def _dropped_when_unusable(connection: Connection) -> Iterator[None]:
    """A connection on which the server fell silent, or which is closed, does not go back into the pool, and nothing
    more is said on it.
    """
    try:
        yield
    except _DRIVER_ERRORS:
        connection.invalidate()
        raise


def _may_be_tried_again(error: BaseException) -> bool:
    if _state(error) in _LOST_TO_ANOTHER | _SCHEMA_CHANGED:
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    # The server was restarted since the connection was used last. What is a ValueError too is our own mistake.
    return isinstance(error, _CONNECTION_ERRORS) and not isinstance(error, ValueError)


def _as_ours(error: BaseException) -> IntegrityError | DependencyUnavailable:
    """Without what the server and the driver quote of a row: it goes to the log, and prompts do not."""
    if isinstance(error, IntegrityError):
        return IntegrityError(error.statement, None, _Refused(told(error)), hide_parameters=True)
    return DependencyUnavailable("database", told(error))


class _Refused(Exception):
    """A constraint's name, and that it would be broken."""


def told(error: BaseException) -> str:
    """What went wrong, in one line that quotes neither a row nor a password."""
    cause = _driver_error(error)
    state = _state(error)
    name = type(cause).__name__ if state is None else f"{type(cause).__name__} {state}"
    message = str(cause).partition("\n")[0]
    quotes_values = (state or "").startswith(_DATA_EXCEPTION) or isinstance(cause, asyncpg.DataError | ValueError)
    return name if quotes_values or not message else f"{name}: {message}"


def _state(error: BaseException) -> str | None:
    state: str | None = getattr(_driver_error(error), "sqlstate", None)
    return state


def _driver_error(error: BaseException) -> BaseException:
    return error.orig.__cause__ or error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
