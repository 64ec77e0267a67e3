"""What is hurt in these tests: a Redis of their own, a service, workers beside it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import OpenService
from tests.faults.replicas import Replica
from tests.faults.support import OwnRedis
from tests.support.installation import free_port
from tests.support.service import RunningService
from tests.tasks.workers import Workers


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    redis = OwnRedis(tmp_path / "redis")
    redis.start()
    yield redis
    redis.close()


@pytest.fixture
def settings() -> dict[str, str]:
    """What a module does not say is as it comes."""
    return {}


@pytest.fixture
async def service(open_service: OpenService, settings: dict[str, str]) -> RunningService:
    """With the module's own settings."""
    return await open_service(**settings)


@pytest.fixture
async def workers(service: RunningService, settings: dict[str, str]) -> AsyncIterator[Workers]:
    """As processes; none is started yet."""
    workers = Workers(service, {**settings, "DATA_DIR": str(service.data_dir)})
    yield workers
    await workers.close()


@pytest.fixture
async def api(service: RunningService, settings: dict[str, str]) -> AsyncIterator[Replica]:
    """As a process, over what the service has."""
    api = Replica(service, {**settings, "DATA_DIR": str(service.data_dir)}, port=free_port())
    await api.start()
    yield api
    await api.close()
