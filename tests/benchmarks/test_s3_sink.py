"""What the benchmarks put images into behaves like a bucket as far as ours asks it."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from benchmarks.s3_sink import S3Sink
from core.clients.s3 import S3Client
from core.clients.s3_errors import KeyMissing, KeyTaken
from core.clients.s3_models import PutOptions, S3Access
from services.storage.owner import BucketOwner
from services.storage.s3 import Buckets, S3Storage
from tests.storage.contract import StorageContract


async def test_it_takes_objects_keeps_conditions_and_forgets_the_bytes_of_large_ones(tmp_path: Path) -> None:
    with S3Sink() as sink:
        client = S3Client(S3Access(sink.url, SecretStr("a"), SecretStr("b")))
        storage = S3Storage(client, Buckets("ours", "ours"), BucketOwner(client, "ours", ("0" * 32,)))
        await storage.check()
        large = StorageContract.another_draft(tmp_path, bytes(2_000_000))
        await storage.put_file("users/a/1.png", large, content_type="image/png")
        await storage.put("users/a/1.json", b"{}", content_type="application/json")
        assert await client.get("ours", "users/a/1.json") == b"{}"
        with pytest.raises(KeyTaken):
            await client.put("ours", "users/a/1.png", b"", PutOptions("image/png", only_new=True))
        await storage.delete("users/a/1.json")
        with pytest.raises(KeyMissing):
            await client.get("ours", "users/a/1.json")
        await client.close()
