"""PostgreSQL: its connections, a server that restarts, is away, silent or slow, and what its errors may not say."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only

from core.clients.postgresql import Connections, Patience, PostgreSQLDatabase
from core.errors import DependencyUnavailable
from tests.database.numbers import insert, numbers, pages, slept
from tests.support.databases import databases, name_of
from tests.support.postgresql import PASSWORD, PostgresServer, running_postgres

pytestmark = pytest.mark.postgresql_only

NAME = "numbers"
MAX_CONNECTIONS, KEPT_FREE = 100, 15  # PostgreSQL's default; for people, backups, migrations


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that may be hurt."""
    with running_postgres() as server:
        server.sql(f"CREATE DATABASE {NAME}")
        server.sql("CREATE TABLE numbers (n INTEGER PRIMARY KEY, writer TEXT NOT NULL)", NAME)
        yield server


@pytest.fixture
async def hurt(own_server: PostgresServer) -> AsyncIterator[PostgreSQLDatabase]:
    own_server.sql("TRUNCATE numbers", NAME)
    database = PostgreSQLDatabase(own_server.url(NAME), 1)
    yield database
    await database.close()


@pytest.mark.parametrize("api_processes", [1, 2, 7, 8, 16, 39])
def test_all_processes_together_leave_connections_for_others(api_processes: int) -> None:
    most = Connections.of(api_processes)
    assert min(most.transactions, most.readers) >= 1
    together = most.transactions + most.readers
    assert together <= 10
    assert (api_processes + 1) * together <= MAX_CONNECTIONS - KEPT_FREE


async def test_who_finds_no_free_connection_waits_for_one(own_server: PostgresServer, hurt: PostgreSQLDatabase) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.05)"))

    sleep = pages(hurt, slept(0.05))
    await asyncio.gather(*(hurt.read(work) for _ in range(60)), *(hurt.page(sleep, {}) for _ in range(30)))
    open_now = own_server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{NAME}'")
    most = Connections.of(1)
    assert int(open_now) == most.transactions + most.readers


async def test_who_waits_too_long_for_a_connection_is_told(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    database = PostgreSQLDatabase(own_server.url(NAME), 39, Patience(pool=0.3))  # one of each

    def work(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(3)"))

    sleep = pages(database, slept(3))
    first = asyncio.gather(database.read(work), database.page(sleep, {}))
    await asyncio.sleep(0.2)
    for asked in (database.read(numbers), database.write(numbers), database.page(pages(database), {})):
        with pytest.raises(DependencyUnavailable):
            await asked
    await first
    assert await database.read(numbers) == []
    assert await database.page(pages(database), {}) == (0, [])
    await database.close()


async def test_after_a_restart_of_the_server_everything_is_right_at_once(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    statement = pages(hurt)
    for number in range(4):
        # Several connections, each of which is dead after the restart.
        await asyncio.gather(*(hurt.page(statement, {}) for _ in range(8)))
        own_server.stop()
        own_server.start()
        if number % 2:
            assert await hurt.page(statement, {}) == (number, [(n,) for n in range(number)])
        await hurt.write(lambda connection, number=number: insert(connection, number))  # type: ignore[misc]
        assert await hurt.read(numbers) == list(range(number + 1))


async def test_a_page_goes_on_when_its_table_has_changed(own_server: PostgresServer, hurt: PostgreSQLDatabase) -> None:
    """A migration while processes run: each connection has its statement prepared for the table as it was."""
    await hurt.write(lambda connection: insert(connection, 1))
    statement = pages(hurt)
    readers = Connections.of(1).readers
    await asyncio.gather(*(hurt.page(statement, {}) for _ in range(2 * readers)))
    for kind, at_once in (("BIGINT", 2 * readers), ("INTEGER", 1)):
        own_server.sql(f"ALTER TABLE numbers ALTER COLUMN n TYPE {kind}", NAME)
        answers = await asyncio.gather(*(hurt.page(statement, {}) for _ in range(at_once)))
        assert answers == [(1, [(1,)])] * at_once


async def test_a_server_that_is_away_is_a_dependency_that_is_down_and_then_there_again(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    await hurt.read(numbers)
    own_server.stop()
    begun = time.monotonic()
    for asked in (hurt.read(numbers), hurt.write(numbers), hurt.page(pages(hurt), {})):
        with pytest.raises(DependencyUnavailable) as error:
            await asked
        assert error.value.details["component"] == "database"
    assert time.monotonic() - begun < 3
    own_server.start()
    assert await hurt.read(numbers) == []


async def test_a_server_that_falls_silent_costs_a_few_seconds(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    statement = pages(hurt)
    await asyncio.gather(*(hurt.page(statement, {}) for _ in range(3)))
    processes = own_server.processes()
    for process in processes:
        process.suspend()
    try:
        begun = time.monotonic()
        outcomes = await asyncio.gather(
            hurt.read(numbers), hurt.write(numbers), hurt.page(statement, {}), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [DependencyUnavailable] * 3
        assert time.monotonic() - begun < 12
    finally:
        for process in processes:
            process.resume()
    assert await hurt.read(numbers) == []


async def test_who_gives_up_a_statement_takes_its_connection_along(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    """Nobody else may get an answer that was meant for them."""
    statement = pages(hurt)
    for _ in range(2 * Connections.of(1).readers):
        asked = asyncio.create_task(hurt.page(pages(hurt, slept(60)), {}))
        await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await hurt.page(statement, {}) == (0, [])


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    database = PostgreSQLDatabase(own_server.url(NAME), 1, Patience(statement=1))
    with pytest.raises(DependencyUnavailable, match="statement timeout"):
        await database.read(lambda connection: connection.execute(text("SELECT pg_sleep(30)")))
    assert await database.read(numbers) == []
    await database.close()


async def test_a_read_sees_one_moment_and_cannot_write(hurt: PostgreSQLDatabase) -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()

    def slow(connection: Connection) -> tuple[list[int], list[int]]:
        before = numbers(connection)
        begun.set()
        await_only(go_on.wait())
        return before, numbers(connection)

    reading = asyncio.create_task(hurt.read(slow))
    await begun.wait()
    await hurt.write(lambda connection: insert(connection, 1))
    go_on.set()
    assert await reading == ([], [])
    with pytest.raises(DependencyUnavailable, match="read-only"):
        await hurt.read(lambda connection: insert(connection, 2))


async def test_of_two_who_wait_for_each_other_both_get_through(hurt: PostgreSQLDatabase) -> None:
    for number in (1, 2):
        await hurt.write(lambda connection, number=number: insert(connection, number))  # type: ignore[misc]
    both_have_one = asyncio.Barrier(2)
    runs = 0

    def change(first: int, second: int) -> Callable[[Connection], None]:
        met = False

        def work(connection: Connection) -> None:
            nonlocal met, runs
            runs += 1
            statement = text("UPDATE numbers SET writer = writer || '!' WHERE n = :n")
            connection.execute(statement, {"n": first})
            if not met:
                met = True
                await_only(both_have_one.wait())
            connection.execute(statement, {"n": second})

        return work

    await asyncio.gather(hurt.write(change(1, 2)), hurt.write(change(2, 1)))
    assert runs == 3
    written = await hurt.read(lambda connection: connection.execute(text("SELECT writer FROM numbers")).scalars().all())
    assert written == ["test!!", "test!!"]


async def test_what_is_lost_while_it_is_committed_is_not_done_twice(
    own_server: PostgresServer, hurt: PostgreSQLDatabase
) -> None:
    """Its connection is cut in the middle of COMMIT, which waits for a trigger that sleeps."""
    own_server.sql(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER lingering AFTER INSERT ON numbers DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION linger()",
        NAME,
    )
    runs = 0

    def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        insert(connection, runs)

    writing = asyncio.create_task(hurt.write(work))
    await asyncio.sleep(1)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT;'"
    assert own_server.sql(cut) == "t"
    with pytest.raises(DependencyUnavailable):
        await writing
    own_server.sql("DROP FUNCTION linger CASCADE", NAME)
    assert runs == 1


SECRET = "a prompt that no log may have"


async def test_no_error_quotes_a_row_or_the_password(own_server: PostgresServer, hurt: PostgreSQLDatabase) -> None:
    def null(connection: Connection) -> None:
        connection.execute(text("INSERT INTO numbers VALUES (7, :a), (8, NULL)"), {"a": SECRET})

    def twice(connection: Connection) -> None:
        insert(connection, 1, SECRET)
        connection.execute(text("ALTER TABLE numbers ADD CONSTRAINT once UNIQUE (writer)"))
        insert(connection, 2, SECRET)

    for work in (null, twice):
        with pytest.raises(IntegrityError) as broken:
            await hurt.write(work)
        assert SECRET not in everything_said(broken.value)
    wrong = text("SELECT n FROM numbers WHERE n = CAST(:value AS integer)")
    zero = text("SELECT n FROM numbers WHERE writer = :value")
    for statement, value in ((wrong, SECRET), (zero, f"{SECRET}\0"), (zero, f"{SECRET}\ud800")):
        bound = statement.bindparams(bindparam("value", value))
        with pytest.raises(DependencyUnavailable) as refused:
            await hurt.read(lambda connection, bound=bound: connection.execute(bound))  # type: ignore[misc]
        assert SECRET not in everything_said(refused.value)
    stranger = PostgreSQLDatabase(own_server.url(NAME).replace("nbl:", "somebody:"), 1)
    with pytest.raises(DependencyUnavailable, match="somebody") as refused:
        await stranger.read(numbers)
    assert PASSWORD not in everything_said(refused.value)
    await stranger.close()


def everything_said(error: BaseException) -> str:
    """What a traceback of it shows."""
    return "".join(traceback.format_exception(error))


def test_ids_compare_by_their_bytes_whatever_the_language_of_the_database(tmp_path: Path) -> None:
    databases.settings(tmp_path)
    columns = databases.ask(
        tmp_path,
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'character varying' AND table_name <> 'alembic_version'",
    )
    assert len(columns) > 20
    assert {collation for _, _, collation in columns} == {"C"}


def test_the_lists_find_their_partial_indexes(tmp_path: Path) -> None:
    """Their conditions stand in the migrations alone: one that says something else than the query is never used."""
    databases.settings(tmp_path)
    mine = "SELECT id FROM images WHERE user_id = 'u' AND"
    listed = f"{mine} listed IS true AND deleted_at IS NULL"
    newest = "ORDER BY created_at DESC, id DESC LIMIT 20"
    for query, index in (
        (f"{listed} {newest}", "ix_images_history"),
        (f"{listed} AND is_favorite IS true {newest}", "ix_images_favorites"),
        (f"{mine} (listed IS false OR deleted_at IS NOT NULL)", "ix_images_hidden"),
        ("SELECT id FROM images WHERE expires_at <= 5", "ix_images_expires_at"),
        ("SELECT id FROM images WHERE deleted_at <= 5", "ix_images_deleted_at"),
    ):
        databases.change(tmp_path, f"ALTER DATABASE {name_of(tmp_path)} SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in databases.ask(tmp_path, f"EXPLAIN {query}"))
        assert index in plan
