"""An S3 server, and services without HTTP, for the tests that need one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.buckets import BucketServer, running_moto
from tests.support.parts import Parts, open_parts


@pytest.fixture(scope="package")
def moto() -> Iterator[BucketServer]:
    with running_moto() as server:
        yield server


@pytest.fixture
async def parts(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[Parts]:
    """Where a call is taken for dead at once."""
    environment = {
        "DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0",
        "REQUEST_TIMEOUT_SECONDS": "0.05", "RESERVATION_GRACE_SECONDS": "0",
    }  # fmt: skip
    async with open_parts(environment, empty_database) as parts:
        yield parts
