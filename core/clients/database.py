"""The database, as two verbs: `read` and `write` run a function with a SQLAlchemy connection in one transaction.

The function is synchronous and short, and does nothing but SQL. It may run more than once, when its transaction could
not be finished and nothing of it stands. SQLite in DATA_DIR and PostgreSQL do this each in its own way (docs/adr/0002).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, MetaData, Select, text

Result = TypeVar("Result")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_TAKE_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")


@dataclass(frozen=True)
class Prepared:
    """A statement for `Database.page`; `names` of its values by their position, where the driver wants positions."""

    text: str
    names: tuple[str, ...] = ()


class RowsAndTotal(NamedTuple):
    total: int
    rows: Sequence[Sequence[Any]]


class Database(ABC):
    @abstractmethod
    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a read transaction, which sees one moment.

        Raises DependencyUnavailable when the database fails.
        """

    @abstractmethod
    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a write transaction, committed at its end, rolled back when it raises.

        Raises IntegrityError for a row that breaks a constraint, else as `read`. With SQLite writers have their turn
        one after the other; with PostgreSQL they do not, so what reads in order to write locks what it reads
        (`with_for_update`), or takes its turn (`take_turn`).
        """

    @abstractmethod
    def prepared(self, total: ColumnElement[int], rows: Select[Any]) -> Prepared:
        """For `page`: a number and some rows, as one statement, made ready once.

        The first column of the rows is never null.
        """

    @abstractmethod
    async def page(self, statement: Prepared, values: Mapping[str, Any]) -> RowsAndTotal:
        """What one short statement that is asked for often tells. Raises as `read`.

        It sees one state of the database by itself, so no transaction is needed around it.
        """

    @abstractmethod
    async def close(self) -> None: ...


def take_turn(connection: Connection, what: str) -> None:
    """Whoever writes what depends on something that is not there yet has their turn, until the transaction ends.

    Without it, two who both found it missing would both write it. With SQLite every writer has the turn anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_TAKE_TURN, {"what": what})


def open_database(url: str, embedded: Path, api_processes: int) -> Database:
    """PostgreSQL at `url`, or SQLite in the file `embedded` when that is empty. Nothing is connected to yet.

    Only the one that is used is imported: PostgreSQL's driver would add a third of a second to each start without it.
    """
    opened: Database
    if url:
        opened = import_module("core.clients.postgresql").PostgreSQLDatabase(url, api_processes)
    else:
        opened = import_module("core.clients.sqlite").SQLiteDatabase(embedded)
    return opened
