"""A database with a table of numbers, of the kind that the tests run on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from core.clients.database import Database, open_database
from core.clients.sqlite import make_sqlite_engine
from tests.database.numbers import CHILDREN, NUMBERS, OpenDatabase, numbers_file
from tests.support.databases import databases


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """SQLite's file."""
    path = numbers_file(tmp_path)
    engine = make_sqlite_engine(path)
    with engine.begin() as connection:
        _create(connection)
    engine.dispose()
    return path


@pytest.fixture
async def open_numbers(tmp_path: Path, path: Path) -> AsyncIterator[OpenDatabase]:
    """Each is opened as another process would have it; all show the same."""
    url = databases.settings(tmp_path).get("DATABASE_URL", "")
    if url:
        databases.run(tmp_path, _create)
    opened: list[Database] = []

    def another() -> Database:
        opened.append(open_database(url, path, 1))
        return opened[-1]

    yield another
    for database in opened:
        await database.close()


@pytest.fixture
def database(open_numbers: OpenDatabase) -> Database:
    return open_numbers()


def _create(connection: Connection) -> None:
    connection.execute(text(NUMBERS))
    connection.execute(text(CHILDREN))
