"""What the tests of all databases share: a table of numbers, and who wrote them."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    cast,
    func,
    select,
    text,
)

from core.clients.database import Database, Prepared, take_turn

NUMBERS = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, writer TEXT)"
CHILDREN = "CREATE TABLE children (n INTEGER REFERENCES numbers (n))"

TABLE = Table("numbers", MetaData(), Column("n", Integer), Column("writer", String))
COUNT = select(func.count()).select_from(TABLE).scalar_subquery()
OpenDatabase = Callable[[], Database]


def numbers_file(folder: Path) -> Path:
    """Where SQLite has them."""
    return folder / "numbers.db"


def insert(connection: Connection, number: int, writer: str | None = "test") -> None:
    connection.execute(text("INSERT INTO numbers VALUES (:n, :writer)"), {"n": number, "writer": writer})


def numbers(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT n FROM numbers ORDER BY n")).scalars())


def next_number(connection: Connection, writer: str = "test") -> int:
    """What has to have its turn to be right."""
    take_turn(connection, "numbers")
    number = max(numbers(connection), default=0) + 1
    insert(connection, number, writer)
    return number


def pages(database: Database, total: ColumnElement[int] = COUNT) -> Prepared:
    """Of all numbers, beside how many there are, or another total."""
    return database.prepared(total, select(TABLE.c.n).order_by(TABLE.c.n))


def slept(seconds: float) -> ColumnElement[int]:
    """PostgreSQL's: a number that is long in coming."""
    return func.length(cast(func.pg_sleep(text(str(seconds))), Text))
