"""The quota without HTTP, over the real Redis and SQLite."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.parts import Parts, open_parts

OpenParts = Callable[..., Awaitable[Parts]]


@pytest.fixture
async def open_quota(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[OpenParts]:
    """`await open_quota(TRIAL_GLOBAL_QUOTA="10")`; without the cooldown unless a test asks for it."""
    async with AsyncExitStack() as stack:

        async def start(**environment: str) -> Parts:
            usual = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0"}
            return await stack.enter_async_context(open_parts(usual | environment, empty_database))

        yield start


@pytest.fixture
async def parts(open_quota: OpenParts) -> Parts:
    return await open_quota()
