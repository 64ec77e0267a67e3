"""Real parts for all tests: a Redis server, a stand-in for Gemini behind HTTP, the API behind a real socket."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from core.clients.embedded_redis import running_redis
from core.clients.sqlite import sqlite_url
from core.settings import setting_groups
from migrations.upgrade import upgrade
from tests.support.databases import databases
from tests.support.github import GitHubStandin, running_github
from tests.support.installation import Installation
from tests.support.postgresql import running_postgres
from tests.support.service import RunningService, run_service

OPERATOR_KEY = "AIzaOperatorKeyOfTheTests0000000000000000"

OpenService = Callable[..., Awaitable[RunningService]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the fault tests whole, not in their short form")
    parser.addoption(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="where services keep their rows"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what only one database has are not for the other one, those without a short form for scripts/soak."""
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[config.getoption("--database")]
    of_other = [
        item
        for item in items
        if item.get_closest_marker(f"{other}_only")
        or (item.get_closest_marker("soak_only") and not config.getoption("--soak"))
    ]
    config.hook.pytest_deselected(items=of_other)
    items[:] = [item for item in items if item not in of_other]


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether fault tests are to run whole (scripts/soak) or in short form (scripts/test)."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_developer() -> None:
    """Neither the environment nor an `.env` of whoever runs the tests may reach the service under test."""
    for group in setting_groups().values():
        group.model_config["env_file"] = None
        for field in group.model_fields:
            os.environ.pop(field.upper(), None)


@pytest.fixture(scope="session", autouse=True)
def _database_server(request: pytest.FixtureRequest, _no_settings_of_the_developer: None) -> Iterator[None]:
    if request.config.getoption("--database") == "sqlite":
        yield
        return
    with running_postgres() as server:
        databases.start_over(server)
        yield


@pytest.fixture(autouse=True)
def _no_databases_left() -> Iterator[None]:
    """Those of a module's fixtures were there before, and stay."""
    before = databases.made()
    yield
    databases.drop(databases.made() - before)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server of this test process alone."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The server, emptied."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def gemini_server() -> Iterator[GeminiStandin]:
    with GeminiStandin() as standin:
        yield standin


@pytest.fixture
def gemini(gemini_server: GeminiStandin) -> GeminiStandin:
    """The stand-in, with nothing recorded and its usual behaviour."""
    gemini_server.reset()
    return gemini_server


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    upgrade(sqlite_url(path))
    return path


@pytest.fixture
async def open_service(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[OpenService]:
    """`await open_service(TRIAL_GLOBAL_QUOTA="10")`: the API with these settings, stopped at the end of the test.

    Without the cooldown, which would make each second generation fail, unless a test asks for it.
    """
    async with AsyncExitStack() as stack:

        async def start(**environment: str) -> RunningService:
            usual = {"DATA_DIR": str(tmp_path / "data"), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0"}
            return await stack.enter_async_context(run_service(usual | environment, empty_database))

        yield start


@pytest.fixture
async def service(open_service: OpenService) -> RunningService:
    """The API with its embedded defaults: the demo provider draws."""
    return await open_service()


@pytest.fixture
async def gemini_service(open_service: OpenService, gemini: GeminiStandin) -> RunningService:
    """The API with an operator's key for the stand-in."""
    return await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)


@pytest.fixture
async def github() -> AsyncIterator[GitHubStandin]:
    async with running_github() as standin:
        yield standin


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """One that runs as processes, as `scripts/run` starts it."""
    installation = Installation(tmp_path)
    yield installation
    installation.clean_up()
