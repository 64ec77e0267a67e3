"""A service with a stand-in for Gemini, whose images are small."""

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.service import Guest, RunningService

NO_LIMITS = {
    "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1", "TRIAL_GLOBAL_QUOTA": "1000", "TRIAL_CHAT_LIMIT": "1000",
    "RATE_LIMIT_REQUESTS": "100000",
}  # fmt: skip


@pytest.fixture
def chat_settings(gemini: GeminiStandin) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    return {"GOOGLE_API_KEY": OPERATOR_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url, **NO_LIMITS}


@pytest.fixture
async def chat_service(open_service: OpenService, chat_settings: dict[str, str]) -> RunningService:
    return await open_service(**chat_settings)


@pytest.fixture
async def guest(chat_service: RunningService) -> Guest:
    return await chat_service.guest()
