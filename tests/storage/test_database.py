"""The database: two verbs over SQLite, and the schema that the migrations make."""

import asyncio
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database, make_sqlite_engine, metadata
from core.errors import DependencyUnavailable
from migrations.upgrade import migration_config
from services.accounts.users import admin_logins, milestones, users
from services.history.store import images
from services.history.trash import clearances
from services.quota.ledger import charges

ROOT = Path(__file__).parents[2]
TABLES = {table.name for table in (users, admin_logins, milestones, images, charges, clearances)}


class Refused(Exception):
    """What a unit of work raises when it does not like what it finds."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as the migrations leave it
        connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, writer TEXT)")
        connection.execute("CREATE TABLE children (n INTEGER REFERENCES numbers (n))")
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = Database(path)
    yield database
    await database.close()


def insert(connection: Connection, number: int, writer: str = "test") -> None:
    connection.execute(text("INSERT INTO numbers VALUES (:n, :writer)"), {"n": number, "writer": writer})


def numbers(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT n FROM numbers ORDER BY n")).scalars())


async def test_what_is_written_is_read_also_by_others(database: Database, path: Path) -> None:
    def work(connection: Connection) -> str:
        insert(connection, 1)
        return "done"

    other = Database(path)
    assert await database.write(work) == "done"
    assert await database.read(numbers) == [1] == await other.read(numbers)
    await other.close()


async def test_what_raises_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    def work(connection: Connection) -> None:
        insert(connection, 1)
        raise Refused

    with pytest.raises(Refused):
        await database.write(work)
    await database.write(lambda connection: insert(connection, 2))
    assert await database.read(numbers) == [2]


async def test_a_broken_constraint_is_an_integrity_error_and_leaves_nothing(database: Database) -> None:
    await database.write(lambda connection: insert(connection, 1))

    def work(connection: Connection) -> None:
        insert(connection, 2)
        insert(connection, 1)

    with pytest.raises(IntegrityError):
        await database.write(work)
    assert await database.read(numbers) == [1]


async def test_foreign_keys_are_kept(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: connection.execute(text("INSERT INTO children VALUES (404)")))


async def test_a_missing_table_is_a_dependency_that_is_down(database: Database) -> None:
    with pytest.raises(DependencyUnavailable) as error:
        await database.read(lambda connection: connection.execute(text("SELECT * FROM nowhere")))
    assert error.value.details["component"] == "database"
    assert await database.read(numbers) == []


async def test_a_missing_folder_is_a_dependency_that_is_down(tmp_path: Path) -> None:
    database = Database(tmp_path / "nowhere" / "nbl.db")
    for verb in (database.read, database.write):
        with pytest.raises(DependencyUnavailable):
            await verb(numbers)
    await database.close()


async def test_a_file_that_is_no_database_is_a_dependency_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "nbl.db").write_text("this is a letter, " * 100)
    database = Database(tmp_path / "nbl.db")
    with pytest.raises(DependencyUnavailable):
        await database.read(numbers)
    await database.close()


async def test_a_database_locked_for_long_is_down_for_writers_alone_and_then_there_again(path: Path) -> None:
    database = Database(path, busy_timeout_seconds=0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DependencyUnavailable) as error:
            await database.write(lambda connection: insert(connection, 1))
        assert "locked" in str(error.value)
        assert await database.read(numbers) == []
        other.execute("ROLLBACK")

    await database.write(lambda connection: insert(connection, 2))
    assert await database.read(numbers) == [2]
    await database.close()


async def test_a_short_lock_is_waited_for(database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(database.write(lambda connection: insert(connection, 1)))
        await asyncio.sleep(0.2)
        assert not writing.done()
        other.execute("COMMIT")
        await writing
    assert await database.read(numbers) == [1]


async def test_a_read_sees_one_moment_however_long_it_takes(database: Database) -> None:
    await database.write(lambda connection: insert(connection, 1))
    begun, go_on, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def slow(connection: Connection) -> tuple[list[int], list[int]]:
        before = numbers(connection)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return before, numbers(connection)

    reading = asyncio.create_task(database.read(slow))
    await begun.wait()
    await database.write(lambda connection: insert(connection, 2))
    go_on.set()

    assert await reading == ([1], [1])
    assert await database.read(numbers) == [1, 2]


async def test_who_reads_and_then_writes_has_the_turn_from_the_start(database: Database, path: Path) -> None:
    """Else another's write in between would make the own one fail as locked, whatever the time it may wait."""
    begun, go_on, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        last = max(numbers(connection), default=0)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        insert(connection, last + 1)

    other = Database(path)
    first = asyncio.create_task(database.write(slow))
    await begun.wait()
    second = asyncio.create_task(other.write(lambda connection: insert(connection, 2)))
    await asyncio.sleep(0.2)
    assert not second.done()
    go_on.set()

    await asyncio.gather(first, second)
    assert await database.read(numbers) == [1, 2]
    await other.close()


async def test_many_who_read_and_then_write_lose_nothing(database: Database) -> None:
    def next_number(connection: Connection) -> int:
        number = max(numbers(connection), default=0) + 1
        insert(connection, number)
        return number

    given = await asyncio.gather(*(database.write(next_number) for _ in range(100)))
    assert sorted(given) == list(range(1, 101)) == await database.read(numbers)


WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from core.clients.database import Database

async def main():
    sys.stdin.readline()
    database = Database(Path(sys.argv[1]))
    def work(connection):
        last = connection.execute(text("SELECT coalesce(max(n), 0) FROM numbers")).scalar_one()
        connection.execute(text("INSERT INTO numbers VALUES (:n, :writer)"), {"n": last + 1, "writer": sys.argv[2]})
    await asyncio.gather(*(database.write(work) for _ in range(100)))
    await database.close()

asyncio.run(main())
"""


async def test_two_processes_that_read_and_then_write_lose_nothing(path: Path, database: Database) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), writer, cwd=ROOT, stdin=asyncio.subprocess.PIPE
        )
        for writer in ("first", "second")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    assert [await process.wait() for process in processes] == [0, 0]

    def by_writer(connection: Connection) -> dict[str, int]:
        rows = connection.execute(text("SELECT writer, count(*) FROM numbers GROUP BY writer"))
        return {row[0]: row[1] for row in rows}

    assert await database.read(by_writer) == {"first": 100, "second": 100}
    assert await database.read(numbers) == list(range(1, 201))


def test_the_migrated_schema_is_the_one_that_the_code_expects(empty_database: Path) -> None:
    engine = make_sqlite_engine(empty_database)
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}
        assert set(metadata.tables) == TABLES
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert partial_indexes(connection) == partial_indexes_of_the_code()
    engine.dispose()


def partial_indexes(connection: Connection) -> set[str]:
    """Alembic's comparison leaves the condition of a partial index out, and with another one it is never used."""
    rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%'"))
    return {" ".join(row[0].split()).lower() for row in rows}


def partial_indexes_of_the_code() -> set[str]:
    engine = make_sqlite_engine(Path(":memory:"))
    with engine.connect() as connection:
        metadata.create_all(connection)
        found = partial_indexes(connection)
    engine.dispose()
    return found


def test_the_schema_goes_down_and_up_again(empty_database: Path, tmp_path: Path) -> None:
    path = tmp_path / "nbl.db"
    shutil.copy(empty_database, path)
    engine, config = make_sqlite_engine(path), migration_config()
    for direction, expected in ((command.downgrade, set()), (command.upgrade, TABLES)):
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            direction(config, "base" if direction is command.downgrade else "head")
        with engine.connect() as connection:
            assert set(inspect(connection).get_table_names()) - {"alembic_version"} == expected
    engine.dispose()


class TestRow:
    """One statement that is asked for often, on the event loop while it is short."""

    COUNT = "WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < :upto) SELECT count(*) FROM up"

    async def test_answers_the_one_row(self, database: Database) -> None:
        await database.write(lambda connection: insert(connection, 7))
        assert await database.row("SELECT n, writer FROM numbers WHERE n = :n", {"n": 7}) == (7, "test")

    async def test_sees_what_was_written_since(self, database: Database) -> None:
        for number in range(3):
            await database.write(lambda connection, number=number: insert(connection, number))  # type: ignore[misc]
            assert await database.row("SELECT count(*) FROM numbers", {}) == (number + 1,)

    async def test_a_short_one_runs_on_the_event_loop_time_and_again(self, database: Database) -> None:
        for _ in range(1000):
            await database.row(self.COUNT, {"upto": 100})
        assert threads_of(database) == []

    async def test_a_long_one_runs_in_a_thread_and_is_whole(self, database: Database) -> None:
        assert await database.row(self.COUNT, {"upto": 2_000_000}) == (2_000_000,)
        assert threads_of(database) != []

    async def test_the_event_loop_is_free_while_a_long_one_runs(self, database: Database) -> None:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - begun)

        watching = asyncio.create_task(watch())
        begun = time.monotonic()
        await database.row(self.COUNT, {"upto": 5_000_000})
        seconds = time.monotonic() - begun
        watching.cancel()
        assert longest < seconds / 3

    async def test_a_writer_does_not_stop_it(self, database: Database, path: Path) -> None:
        await database.write(lambda connection: insert(connection, 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("INSERT INTO numbers VALUES (2, 'other')")
            assert await database.row("SELECT count(*) FROM numbers", {}) == (1,)

    async def test_what_is_wrong_is_said(self, database: Database) -> None:
        with pytest.raises(DependencyUnavailable, match="no such table"):
            await database.row("SELECT n FROM nowhere", {})
        assert await database.row("SELECT 1", {}) == (1,)


def threads_of(database: Database) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("db-read")]
