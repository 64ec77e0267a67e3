"""A service whose images are small and quick to make, and whose limits are out of the way."""

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.conftest import OpenService
from tests.history.shelf import WIDE
from tests.support.service import RunningService


@pytest.fixture
async def shelf(open_service: OpenService, gemini: GeminiStandin) -> RunningService:
    gemini.configure(pixels=(640, 480))
    return await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, **WIDE)
