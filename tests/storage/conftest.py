"""S3 servers for the tests of the storage, and the settings that lead to them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.buckets import BucketServer, running_moto, running_rclone
from tests.support.fault_proxy import FaultProxy, fault_proxy


@pytest.fixture(scope="session")
def moto() -> Iterator[BucketServer]:
    with running_moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with running_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
async def proxy(moto: BucketServer) -> AsyncIterator[FaultProxy]:
    """Stands before moto, harmless until a test says otherwise."""
    async with fault_proxy(moto.url) as standing:
        yield standing
