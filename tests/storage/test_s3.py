"""A bucket keeps the storage contract: on servers with conditions and without, as one bucket and as two."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.clients.s3 import S3Client
from core.clients.s3_models import PutOptions, S3Access
from core.errors import StorageUnavailable
from services.storage.base import Storage
from services.storage.owner import OWNER_KEY, BucketOwner
from services.storage.s3 import Buckets, S3Storage
from tests.storage.contract import KEY, RECORD, StorageContract, is_there, listed
from tests.storage.test_local import USES, Use
from tests.support.buckets import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer

OWNER = ("0" * 32,)


@pytest.fixture(scope="module")
def moto_client(moto: BucketServer) -> Iterator[S3Client]:
    client = open_client(moto)
    yield client
    asyncio.run(client.close())


@pytest.fixture(scope="module")
def rclone_client(rclone: BucketServer) -> Iterator[S3Client]:
    client = open_client(rclone)
    yield client
    asyncio.run(client.close())


def open_client(server: BucketServer) -> S3Client:
    return S3Client(S3Access(server.url, SecretStr(ACCESS_KEY_ID), SecretStr(SECRET_ACCESS_KEY)))


def open_storage(client: S3Client, images: str, others: str) -> S3Storage:
    return S3Storage(client, Buckets(images, others), BucketOwner(client, others, OWNER))


class TestOneBucket(StorageContract):
    @pytest.fixture
    def storage(self, moto: BucketServer, moto_client: S3Client) -> S3Storage:
        bucket = moto.new_bucket()
        return open_storage(moto_client, bucket, bucket)


class TestTwoBuckets(StorageContract):
    @pytest.fixture
    def storage(self, moto: BucketServer, moto_client: S3Client) -> S3Storage:
        return open_storage(moto_client, moto.new_bucket(), moto.new_bucket())


class TestBucketWithoutConditions(StorageContract):
    @pytest.fixture
    def storage(self, rclone: BucketServer, rclone_client: S3Client) -> S3Storage:
        bucket = rclone.new_bucket()
        return open_storage(rclone_client, bucket, bucket)

    async def test_delete_removes_one_object_and_may_be_repeated(self, storage: Storage) -> None:
        """Without the part in which a folder's name is deleted: this server keeps folders, and fails on it."""
        await self.put(storage, KEY)
        await self.put(storage, RECORD)
        await storage.delete(KEY)
        await storage.delete(KEY)
        await storage.delete("never/was/there")
        assert await listed(storage, "") == [RECORD]

    async def test_of_concurrent_puts_of_one_key_one_is_left_whole(self, storage: Storage) -> None:
        """This server's list may name one object twice for a while, each time one that is whole."""
        contents = [bytes([number]) * 200_000 for number in range(20)]
        await asyncio.gather(*(self.put(storage, KEY, data) for data in contents))
        assert await storage.get(KEY) in contents
        assert set(await listed(storage, "")) == {KEY}
        await storage.delete(KEY)
        assert await listed(storage, "") == []


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_a_bucket_that_went_away_does_not_pass_for_an_empty_one(
    moto: BucketServer, moto_client: S3Client, tmp_path: Path, use: Use
) -> None:
    bucket = moto.new_bucket()
    storage = open_storage(moto_client, bucket, bucket)
    await storage.check()
    moto.s3.delete_object(Bucket=bucket, Key=OWNER_KEY)
    moto.s3.delete_bucket(Bucket=bucket)
    draft = StorageContract.another_draft(tmp_path, b"the image")
    with pytest.raises(StorageUnavailable, match="NoSuchBucket") as raised:
        await use(storage, draft)
    assert bucket not in str(raised.value.details)
    assert is_there(draft)


async def test_names_that_are_no_keys_of_ours_are_not_listed(moto: BucketServer, moto_client: S3Client) -> None:
    bucket = moto.new_bucket()
    for key in ("a/", "a//b", "a/b"):
        moto.s3.put_object(Bucket=bucket, Key=key, Body=b"")
    storage = open_storage(moto_client, bucket, bucket)
    await storage.check()
    assert await listed(storage, "") == ["a/b"]


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_a_key_is_listed_and_read_as_it_was_put(server: str, request: pytest.FixtureRequest) -> None:
    client: S3Client = request.getfixturevalue(f"{server}_client")
    bucket: str = request.getfixturevalue(server).new_bucket()
    keys = sorted(["a b+c%2Bd", "q?x=1&y", "~tilde-_.", "ü/图", "quote\"'<&>"], key=str.encode)
    for key in keys:
        await client.put(bucket, key, key.encode(), PutOptions("text/plain"))
    assert [found.key async for found in client.list(bucket, "")] == keys
    assert [found.key async for found in client.list(bucket, "a b+")] == ["a b+c%2Bd"]
    assert [await client.get(bucket, key) for key in keys] == [key.encode() for key in keys]
    for key in keys:
        await client.delete(bucket, key)
    assert [found.key async for found in client.list(bucket, "")] == []
