"""A service with a stand-in for Gemini, and workers beside it."""

from collections.abc import AsyncIterator

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.receiver import Receiver, running_receiver
from tests.support.service import Guest, RunningService
from tests.tasks.workers import Workers

NO_LIMITS = {
    "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1", "TRIAL_GLOBAL_QUOTA": "1000",
    "TRIAL_BASIC_1K_LIMIT": "1000", "TRIAL_BATCH_1K_LIMIT": "1000", "RATE_LIMIT_REQUESTS": "100000",
    "REQUEST_TIMEOUT_SECONDS": "30", "RESERVATION_GRACE_SECONDS": "5",
    # Two names of this machine, which are two hosts to whoever counts them.
    "ALLOWED_PRIVATE_HOSTS": "127.0.0.1,localhost",
}  # fmt: skip


@pytest.fixture
def task_settings(gemini: GeminiStandin) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    return {"GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url, **NO_LIMITS}


@pytest.fixture
async def tasks_service(open_service: OpenService, task_settings: dict[str, str]) -> RunningService:
    return await open_service(**task_settings)


@pytest.fixture
async def guest(tasks_service: RunningService) -> Guest:
    return await tasks_service.guest()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Whom webhooks are sent to."""
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def workers(
    tasks_service: RunningService, task_settings: dict[str, str], redis_url: str
) -> AsyncIterator[Workers]:
    workers = Workers(tasks_service, {**task_settings, "DATA_DIR": str(tasks_service.data_dir), "REDIS_URL": redis_url})
    yield workers
    await workers.close()
