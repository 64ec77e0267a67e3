"""An S3 server, services without HTTP over local files, and a folder for what the old app left."""

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
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    return folder


@pytest.fixture
async def parts(redis_url: str, empty_database: Path, tmp_path: Path) -> AsyncIterator[Parts]:
    environment = {"DATA_DIR": str(tmp_path / "new"), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0"}
    async with open_parts(environment, empty_database) as parts:
        yield parts
