"""Starting on PostgreSQL: what is wrong with the database is one line, and nothing is started."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrations.upgrade import upgrade
from tests.conftest import OpenService
from tests.support.databases import TEMPLATE, databases
from tests.support.installation import ROOT, Installation, free_port
from tests.support.postgresql import PASSWORD, PostgresServer

pytestmark = pytest.mark.postgresql_only

STOP_SECONDS = 15
COMMAND = f"run `{sys.executable} -m migrations upgrade`"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Installation]:
    service = Installation(tmp_path)
    yield service
    service.clean_up()


@pytest.fixture
def server() -> PostgresServer:
    assert databases.server is not None
    return databases.server


@pytest.fixture
def empty(server: PostgresServer) -> Iterator[str]:
    """The address of a database without a table."""
    server.sql("CREATE DATABASE fresh")
    yield server.url("fresh")
    server.sql("DROP DATABASE fresh WITH (FORCE)")


def one_line(service: Installation, **settings: str) -> str:
    """What a start says that is refused."""
    code, lines = service.refused(**settings)
    assert code == 1
    (line,) = lines
    assert PASSWORD not in line
    assert "DATABASE_URL" in line
    assert not (service.data / "run" / "lock").exists()
    return line


def upgraded(url: str) -> subprocess.CompletedProcess[str]:
    """What an operator does who reads the line."""
    return subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"], cwd=ROOT, env={"DATABASE_URL": url}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_an_empty_database_is_named_with_the_command_that_fills_it(service: Installation, empty: str) -> None:
    line = one_line(service, DATABASE_URL=empty)
    assert "is empty" in line
    assert COMMAND in line

    done = upgraded(empty)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    leader = service.start(DATABASE_URL=empty)
    assert service.health() == 200
    assert not list(service.data.glob("nbl.db*"))
    leader.send_signal(signal.SIGTERM)
    assert leader.wait(STOP_SECONDS) == 0


def test_a_database_one_migration_behind_is_named_with_the_command(
    service: Installation, server: PostgresServer, empty: str
) -> None:
    upgrade(empty)
    newest = server.sql("SELECT version_num FROM alembic_version", "fresh")
    before = f"{int(newest) - 1:04}"
    server.sql(f"UPDATE alembic_version SET version_num = '{before}'", "fresh")

    line = one_line(service, DATABASE_URL=empty)

    assert f"is at revision {before}, which is older than this version" in line
    assert COMMAND in line


def test_a_database_that_is_ahead_is_named(service: Installation, server: PostgresServer, empty: str) -> None:
    upgrade(empty)
    server.sql("UPDATE alembic_version SET version_num = '9999_tomorrow'", "fresh")

    line = one_line(service, DATABASE_URL=empty)

    assert "is at revision 9999_tomorrow, which this version does not know: start the version that made it" in line
    done = upgraded(empty)
    assert done.returncode == 1
    assert "9999_tomorrow, which this version does not know" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_wrong_with_the_address_is_one_line_without_the_password(
    service: Installation, server: PostgresServer
) -> None:
    right = server.url(TEMPLATE)
    for address, reason in (
        (right.replace(":p%40ss", ":p%40sS"), 'password authentication failed for user "nbl"'),
        (right.replace("nbl:", "somebody:"), 'password authentication failed for user "somebody"'),
        (server.url("nowhere"), 'database "nowhere" does not exist'),
        (right.replace(f":{server.port}/", f":{free_port()}/"), "Connect call failed"),
        (right.replace("127.0.0.1", "no-such-host.invalid"), "ame"),  # the words are the system's own
        (f"{right}?sslmode=require", "SSL"),
    ):
        line = one_line(service, DATABASE_URL=address)
        assert reason in line
        assert "p%40ss" not in line.lower()
        done = upgraded(address)
        assert done.returncode == 1
        assert reason in done.stderr
        assert PASSWORD.lower() not in done.stderr.lower()
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "address", ["mysql://nbl:secret@db/nbl", "postgresql://nbl:sec/ret@db/nbl", "postgresql://db", "nbl:secret@db/nbl"]
)
def test_an_address_that_is_none_is_named_with_the_other_settings(service: Installation, address: str) -> None:
    code, lines = service.refused(DATABASE_URL=address, PORT="none")
    assert code == 2
    assert sorted(line.partition(":")[0] for line in lines) == ["DATABASE_URL", "PORT"]
    assert "sec" not in "".join(lines).replace("SECONDS", "")


async def test_a_process_that_starts_while_the_server_is_away_says_so_to_callers(
    open_service: OpenService, server: PostgresServer
) -> None:
    service = await open_service(DATABASE_URL=server.url("nbl").replace(f":{server.port}/", f":{free_port()}/"))
    answer = await service.client.post("/api/auth/guest", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert (await service.client.get("/api/health/ready")).status_code == 503


async def test_upgrades_at_the_same_time_wait_for_each_other(empty: str) -> None:
    outcomes = await asyncio.gather(*(asyncio.to_thread(upgraded, empty) for _ in range(3)))
    assert [(done.returncode, done.stderr) for done in outcomes] == [(0, "")] * 3
