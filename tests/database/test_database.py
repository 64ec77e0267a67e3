"""What every database keeps to, SQLite and PostgreSQL alike, and the schema that the migrations make."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Integer, MetaData, String, bindparam, inspect, literal_column, select, text
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database, metadata
from core.clients.sqlite import make_sqlite_engine
from core.errors import DependencyUnavailable
from migrations.upgrade import migration_config
from services.accounts.service_key_rows import service_keys
from services.accounts.users import admin_logins, milestones, users
from services.history.blocks import block_postings
from services.history.segments import postings, segments
from services.history.store import images, shown_counts
from services.history.trash import clearances
from services.moderation.audit_index import checks
from services.prompts.store import favorites, prompts
from services.quota.holds import dropped_calls, holds
from services.quota.ledger import charges
from services.tasks.store import tasks
from services.webhooks.store import deliveries
from tests.database.numbers import COUNT, TABLE, OpenDatabase, insert, next_number, numbers, numbers_file, pages
from tests.support.databases import databases

ROOT = Path(__file__).parents[2]
TABLES = {
    table.name
    for table in (
        users,
        admin_logins,
        milestones,
        images,
        shown_counts,
        segments,
        postings,
        block_postings,
        charges,
        clearances,
        checks,
        prompts,
        favorites,
        service_keys,
        tasks,
        deliveries,
        holds,
        dropped_calls,
    )
}


class Refused(Exception):
    """What a unit of work raises when it does not like what it finds."""


async def test_what_is_written_is_read_also_by_others(database: Database, open_numbers: OpenDatabase) -> None:
    def work(connection: Connection) -> str:
        insert(connection, 1)
        return "done"

    other = open_numbers()
    assert await database.write(work) == "done"
    assert await database.read(numbers) == [1] == await other.read(numbers)


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


async def test_many_who_read_and_then_write_lose_nothing(database: Database) -> None:
    given = await asyncio.gather(*(database.write(next_number) for _ in range(100)))
    assert sorted(given) == list(range(1, 101)) == await database.read(numbers)


WRITER = """
import asyncio, sys
from pathlib import Path
from core.clients.database import open_database
from tests.database.numbers import next_number

async def main():
    sys.stdin.readline()
    database = open_database(sys.argv[1], Path(sys.argv[2]), 1)
    await asyncio.gather(*(database.write(lambda connection: next_number(connection, sys.argv[3])) for _ in range(100)))
    await database.close()

asyncio.run(main())
"""


async def test_two_processes_that_read_and_then_write_lose_nothing(tmp_path: Path, database: Database) -> None:
    url = databases.settings(tmp_path).get("DATABASE_URL", "")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WRITER,
            url,
            str(numbers_file(tmp_path)),
            writer,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
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


async def test_a_page_is_its_rows_and_a_total(database: Database) -> None:
    texts = ('"', "\\", "\n\x01\u2028", "狐狸 🦊", "", None)

    def work(connection: Connection) -> None:
        for number, writer in enumerate(texts):
            insert(connection, number, writer)

    await database.write(work)
    rows = select(TABLE.c.n, TABLE.c.writer).where(TABLE.c.n >= bindparam("least")).order_by(TABLE.c.n.desc())
    statement = database.prepared(COUNT, rows.limit(bindparam("limit")).offset(bindparam("offset")))

    async def page(least: int, limit: int, offset: int) -> tuple[int, list[tuple[int, str | None]]]:
        total, found = await database.page(statement, {"least": least, "limit": limit, "offset": offset})
        return total, [(number, writer) for number, writer in found]

    assert await page(0, 100, 0) == (6, [(number, texts[number]) for number in reversed(range(len(texts)))])
    assert await page(0, 1, 1) == (6, [(4, "")])
    assert await page(100, 1, 0) == (6, [])


async def test_a_page_shows_what_was_written_since(database: Database) -> None:
    statement = pages(database)
    for number in range(3):
        await database.write(lambda connection, number=number: insert(connection, number))  # type: ignore[misc]
        total, rows = await database.page(statement, {})
        assert (total, [n for (n,) in rows]) == (number + 1, list(range(number + 1)))


async def test_what_is_wrong_with_a_page_is_said(database: Database) -> None:
    with pytest.raises(DependencyUnavailable, match=r"nowhere"):
        await database.page(pages(database, literal_column("(SELECT n FROM nowhere)", Integer)), {})
    assert await database.page(pages(database), {}) == (0, [])


def test_the_migrated_schema_is_the_one_that_the_code_expects(empty_database: Path, tmp_path: Path) -> None:
    databases.laid_out(tmp_path, empty_database)

    def check(connection: Connection) -> None:
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}
        assert set(metadata.tables) == TABLES
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []

    databases.run(tmp_path, check)


@pytest.mark.sqlite_only
def test_the_conditions_of_partial_indexes_are_those_of_the_code(empty_database: Path, tmp_path: Path) -> None:
    """Alembic's comparison leaves them out, and with another condition an index is never used."""
    databases.laid_out(tmp_path, empty_database)
    created = make_sqlite_engine(Path(":memory:"))
    with created.connect() as connection:
        metadata.create_all(connection)
        expected = partial_indexes(connection)
    created.dispose()
    assert databases.run(tmp_path, partial_indexes) == expected != set()


def partial_indexes(connection: Connection) -> set[str]:
    rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%'"))
    return {" ".join(row[0].split()).lower() for row in rows}


def step(direction: Callable[[Config, str], None], revision: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        config = migration_config()
        config.attributes["connection"] = connection
        direction(config, revision)

    return work


def columns_of(connection: Connection) -> dict[str, dict[str, tuple[str, bool]]]:
    """Type of each column, and whether a row may go without it, by table and name."""
    inspector = inspect(connection)
    return {
        table: {
            column["name"]: (str(column["type"]), column["nullable"] or column["default"] is not None)
            for column in inspector.get_columns(table)
        }
        for table in inspector.get_table_names()
    }


def revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def test_a_migration_only_adds_what_the_version_before_may_leave_out(empty_database: Path, tmp_path: Path) -> None:
    """So that its processes go on while those of the next version take their place."""
    databases.laid_out(tmp_path, empty_database)
    databases.run(tmp_path, step(command.downgrade, "base"))
    before = databases.run(tmp_path, columns_of)
    while databases.run(tmp_path, revision_of) != ScriptDirectory.from_config(migration_config()).get_current_head():
        databases.run(tmp_path, step(command.upgrade, "+1"))
        after = databases.run(tmp_path, columns_of)
        for table, columns in before.items():
            assert {name: after[table].get(name) for name in columns} == columns, table
            added = after[table].keys() - columns.keys()
            assert all(after[table][name][1] for name in added), f"{table}: {added}"
        before = after


def test_prompts_that_were_there_are_folded_and_counted(empty_database: Path, tmp_path: Path) -> None:
    databases.laid_out(tmp_path, empty_database)
    databases.run(tmp_path, step(command.downgrade, "0003"))

    def fill(connection: Connection) -> None:
        then = MetaData()
        then.reflect(connection, only=["images"])
        usual: dict[str, Any] = {
            column.name: "x" if isinstance(column.type, String) else 1
            for column in then.tables["images"].c
            if not column.nullable
        }
        rows = [
            usual | {"id": f"img_{number:05}", "key": str(number), "prompt": f"Ｃat {number}", "listed": number != 7}
            for number in range(2100)
        ]
        connection.execute(then.tables["images"].insert(), [row | {"is_favorite": False} for row in rows])

    databases.run(tmp_path, fill)
    databases.run(tmp_path, step(command.upgrade, "head"))
    folded = databases.ask(tmp_path, "SELECT folded FROM images ORDER BY id")
    assert folded == [(f"cat {number}",) for number in range(2100)]
    assert databases.ask(tmp_path, "SELECT shown FROM shown_counts") == [(2099,)]


def test_the_schema_goes_down_and_up_again(empty_database: Path, tmp_path: Path) -> None:
    databases.laid_out(tmp_path, empty_database)

    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}

    databases.run(tmp_path, step(command.downgrade, "base"))
    assert databases.run(tmp_path, tables) == set()
    databases.run(tmp_path, step(command.upgrade, "head"))
    assert databases.run(tmp_path, tables) == TABLES
