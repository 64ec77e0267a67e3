"""SQLite in a file: its threads, its locks, what becomes of a file that is broken, and reads on the event loop."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, Integer, bindparam, func, literal_column, select

from core.clients.sqlite import SQLiteDatabase
from core.errors import DependencyUnavailable
from tests.database.numbers import insert, numbers, pages

pytestmark = pytest.mark.sqlite_only


async def test_a_missing_folder_is_a_dependency_that_is_down(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path / "nowhere" / "nbl.db")
    for verb in (database.read, database.write):
        with pytest.raises(DependencyUnavailable):
            await verb(numbers)
    await database.close()


async def test_a_file_that_is_no_database_is_a_dependency_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "nbl.db").write_text("this is a letter, " * 100)
    database = SQLiteDatabase(tmp_path / "nbl.db")
    with pytest.raises(DependencyUnavailable):
        await database.read(numbers)
    await database.close()


async def test_a_database_locked_for_long_is_down_for_writers_alone_and_then_there_again(path: Path) -> None:
    database = SQLiteDatabase(path, busy_timeout_seconds=0.1)
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


async def test_a_short_lock_is_waited_for(database: SQLiteDatabase, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(database.write(lambda connection: insert(connection, 1)))
        await asyncio.sleep(0.2)
        assert not writing.done()
        other.execute("COMMIT")
        await writing
    assert await database.read(numbers) == [1]


async def test_a_read_sees_one_moment_however_long_it_takes(database: SQLiteDatabase) -> None:
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


async def test_who_reads_and_then_writes_has_the_turn_from_the_start(database: SQLiteDatabase, path: Path) -> None:
    """Else another's write in between would make the own one fail as locked, whatever the time it may wait."""
    begun, go_on, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        last = max(numbers(connection), default=0)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        insert(connection, last + 1)

    other = SQLiteDatabase(path)
    first = asyncio.create_task(database.write(slow))
    await begun.wait()
    second = asyncio.create_task(other.write(lambda connection: insert(connection, 2)))
    await asyncio.sleep(0.2)
    assert not second.done()
    go_on.set()

    await asyncio.gather(first, second)
    assert await database.read(numbers) == [1, 2]
    await other.close()


class TestPage:
    """One statement that is asked for often, on the event loop while it is short."""

    _UP = select(literal_column("1", Integer).label("n")).cte("up", recursive=True)
    _UPTO = _UP.union_all(select(_UP.c.n + literal_column("1")).where(_UP.c.n < bindparam("upto")))
    UPTO = select(func.count()).select_from(_UPTO).scalar_subquery()

    async def test_a_short_one_runs_on_the_event_loop_time_and_again(self, database: SQLiteDatabase) -> None:
        for _ in range(1000):
            await database.page(pages(database, self.UPTO), {"upto": 100})
        assert threads_of(database) == []

    async def test_a_long_one_runs_in_a_thread_and_is_whole(self, database: SQLiteDatabase) -> None:
        assert await database.page(pages(database, self.UPTO), {"upto": 2_000_000}) == (2_000_000, [])
        assert threads_of(database) != []

    async def test_the_event_loop_is_free_while_a_long_one_runs(self, database: SQLiteDatabase) -> None:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                begun = time.monotonic()
                await asyncio.sleep(0)
                longest = max(longest, time.monotonic() - begun)

        watching = asyncio.create_task(watch())
        begun = time.monotonic()
        await database.page(pages(database, self.UPTO), {"upto": 5_000_000})
        seconds = time.monotonic() - begun
        watching.cancel()
        assert longest < seconds / 3

    async def test_a_writer_does_not_stop_it(self, database: SQLiteDatabase, path: Path) -> None:
        await database.write(lambda connection: insert(connection, 1))
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("INSERT INTO numbers VALUES (2, 'other')")
            assert await database.page(pages(database), {}) == (1, [[1]])


def threads_of(_database: SQLiteDatabase) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("db-read")]
