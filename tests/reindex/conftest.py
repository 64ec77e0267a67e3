"""An S3 server, for the tests that need one."""

from collections.abc import Iterator

import pytest

from tests.support.buckets import BucketServer, running_moto


@pytest.fixture(scope="package")
def moto() -> Iterator[BucketServer]:
    with running_moto() as server:
        yield server
