"""What the start says of a bucket: wrong keys, no bucket, another's bucket; and one that is merely away."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from pydantic import SecretStr

from core.clients.s3 import S3Client
from core.security import KeyRing
from core.settings import SettingsError, load_settings
from services.storage import bucket as opening
from services.storage.owner import OWNER_KEY, BucketOwner, ForeignBucket, installation_ids
from tests.storage.contract import BINARY, KEY
from tests.storage.test_s3 import open_client, open_storage
from tests.support.buckets import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer, bucket_settings
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.installation import ROOT, Installation, free_port

ONE, TWO = "the secret key of the first one ....", "the secret key of the second one ..."


def keys(current: str, previous: str | None = None) -> KeyRing:
    return KeyRing(SecretStr(current), None if previous is None else SecretStr(previous))


async def prove(url: str, bucket: str, ring: KeyRing, **more: str) -> None:
    await opening.prove(load_settings(bucket_settings(url, bucket, **more)).storage, ring)


@pytest.fixture(scope="module")
def client(moto: BucketServer) -> Iterator[S3Client]:
    client = open_client(moto)
    yield client
    asyncio.run(client.close())


async def test_a_second_installation_does_not_start_on_the_bucket_of_another(moto: BucketServer) -> None:
    bucket = moto.new_bucket()
    await prove(moto.url, bucket, keys(ONE))
    await prove(moto.url, bucket, keys(ONE))
    with pytest.raises(SettingsError, match=f"R2_BUCKET_NAME: {bucket} belongs to another installation") as refused:
        await prove(moto.url, bucket, keys(TWO))
    assert OWNER_KEY in str(refused.value)
    moto.s3.delete_object(Bucket=bucket, Key=OWNER_KEY)
    await prove(moto.url, bucket, keys(TWO))


async def test_on_a_server_without_conditions_it_does_not_start_either(rclone: BucketServer) -> None:
    bucket = rclone.new_bucket()
    await prove(rclone.url, bucket, keys(ONE))
    with pytest.raises(SettingsError, match="belongs to another installation"):
        await prove(rclone.url, bucket, keys(TWO))
    await prove(rclone.url, bucket, keys(ONE))


async def test_of_two_that_start_at_once_one_gets_the_bucket(moto: BucketServer, client: S3Client) -> None:
    bucket = moto.new_bucket()
    owners = [BucketOwner(client, bucket, installation_ids(keys(f"{n} {ONE}"))) for n in range(6)]
    results = await asyncio.gather(*(owner.confirm() for owner in owners), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [ForeignBucket] * 5


async def test_a_changed_secret_key_is_known_by_the_one_before(moto: BucketServer) -> None:
    bucket = moto.new_bucket()
    await prove(moto.url, bucket, keys(ONE))
    await prove(moto.url, bucket, keys(TWO, ONE))
    # A host that has not got the new key yet, then all have it, then the old one is dropped.
    await prove(moto.url, bucket, keys(ONE))
    await prove(moto.url, bucket, keys(TWO, ONE))
    await prove(moto.url, bucket, keys(TWO))
    with pytest.raises(SettingsError, match="belongs to another installation"):
        await prove(moto.url, bucket, keys(ONE))


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"installations": 3}', b"{}"])
async def test_a_broken_owner_is_nobody_we_know(moto: BucketServer, content: bytes) -> None:
    bucket = moto.new_bucket()
    moto.s3.put_object(Bucket=bucket, Key=OWNER_KEY, Body=content)
    with pytest.raises(SettingsError, match="belongs to another installation"):
        await prove(moto.url, bucket, keys(ONE))
    assert moto.s3.get_object(Bucket=bucket, Key=OWNER_KEY)["Body"].read() == content


async def test_a_bucket_of_another_that_was_away_at_the_start_takes_nothing(
    moto: BucketServer, client: S3Client, tmp_path: Path
) -> None:
    bucket = moto.new_bucket()
    moto.s3.put_object(Bucket=bucket, Key=OWNER_KEY, Body=orjson.dumps({"installations": ["f" * 32]}))
    storage = open_storage(client, bucket, bucket)
    draft = tmp_path / "draft"
    draft.write_bytes(b"x")
    with pytest.raises(ForeignBucket):
        await storage.put(KEY, b"x", content_type=BINARY)
    with pytest.raises(ForeignBucket):
        await storage.put_file(KEY, draft, content_type="image/png")
    with pytest.raises(ForeignBucket):
        await storage.check()
    assert moto.keys(bucket) == [OWNER_KEY]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"R2_SECRET_ACCESS_KEY": "wrong-secret-of-the-tests"}, "R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY: "),
        ({"R2_ACCESS_KEY_ID": "AKIDOFNOBODY"}, "R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY: "),
        ({"R2_BUCKET_NAME": "nbl-nowhere"}, "R2_BUCKET_NAME, R2_PRIVATE_BUCKET_NAME: no such bucket"),
    ],
)
def test_what_is_wrong_with_the_bucket_is_one_line_without_a_secret(
    installation: Installation, rclone: BucketServer, wrong: dict[str, str], named: str
) -> None:
    settings = bucket_settings(rclone.url, rclone.new_bucket()) | wrong
    code, lines = installation.refused(**settings)
    assert code == 1
    assert [line for line in lines if line.startswith(named)], lines
    assert lines[-1] == "nbl: nbl-api cannot start with these settings"
    assert "Traceback" not in installation.output()
    assert settings["R2_SECRET_ACCESS_KEY"] not in installation.output()


async def test_keys_that_may_not_write_are_named(moto: BucketServer, proxy: FaultProxy) -> None:
    bucket = moto.new_bucket()
    proxy.faults = [Fault("answer", "PUT", status=403, code="AccessDenied")]
    with pytest.raises(SettingsError, match=r"R2_ACCESS_KEY_ID: may not read, write and list at .*403 AccessDenied"):
        await prove(proxy.url, bucket, keys(ONE))


def test_a_service_whose_bucket_is_away_starts_and_says_so(installation: Installation) -> None:
    installation.start(**bucket_settings(f"http://127.0.0.1:{free_port()}", "nbl-away"))
    report = httpx.get(f"{installation.url}/api/health/detailed", timeout=30).json()
    assert report["components"]["r2_storage"]["status"] == "unhealthy"
    assert "bucket is away" in installation.output()
    assert SECRET_ACCESS_KEY not in installation.output()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"R2_ENDPOINT_URL": ""}, ["R2_ACCOUNT_ID: must be set with R2_ENABLED, or else R2_ENDPOINT_URL"]),
        ({"R2_ACCESS_KEY_ID": "", "R2_SECRET_ACCESS_KEY": ""},
         ["R2_ACCESS_KEY_ID: must be set with R2_ENABLED", "R2_SECRET_ACCESS_KEY: must be set with R2_ENABLED"]),
        ({"R2_PUBLIC_URL": "https://images.example.org"}, ["R2_PRIVATE_BUCKET_NAME: with R2_PUBLIC_URL it must"]),
        ({"R2_PUBLIC_URL": "https://images.example.org", "R2_PRIVATE_BUCKET_NAME": "images"},
         ["R2_PRIVATE_BUCKET_NAME: with R2_PUBLIC_URL it must"]),
        ({"R2_BUCKET_NAME": "No Bucket"}, ["R2_BUCKET_NAME: "]),
    ],
)  # fmt: skip
def test_settings_of_a_bucket_that_do_not_fit_together_are_named(change: dict[str, str], named: list[str]) -> None:
    settings = bucket_settings("http://127.0.0.1:9", "images") | change
    with pytest.raises(SettingsError) as refused:
        load_settings({name: value for name, value in settings.items() if value})
    assert len(refused.value.problems) == len(named)
    for problem, start in zip(refused.value.problems, named, strict=True):
        assert problem.startswith(start)
        assert ACCESS_KEY_ID not in problem


def test_without_an_endpoint_the_account_leads_to_cloudflare() -> None:
    settings = bucket_settings("", "images", R2_ACCOUNT_ID="abc123")
    storage = load_settings({name: value for name, value in settings.items() if value}).storage
    assert storage.r2_endpoint == "https://abc123.r2.cloudflarestorage.com"


@pytest.mark.parametrize("server", ["moto", "rclone"])
async def test_whether_a_bucket_keeps_conditions_is_found_out(server: str, request: pytest.FixtureRequest) -> None:
    found: BucketServer = request.getfixturevalue(server)
    client = open_client(found)
    bucket = found.new_bucket()
    for _ in range(2):
        owner = BucketOwner(client, bucket, ("0" * 32,))
        await owner.confirm()
        assert owner.keeps_conditions is (server == "moto")
    await client.close()


def test_a_worker_alone_refuses_a_bucket_too(installation: Installation, rclone: BucketServer) -> None:
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
    settings = bucket_settings(rclone.url, "nbl-nowhere", DATA_DIR=str(installation.data), REDIS_URL="redis://nowhere")
    ended = subprocess.run(
        [sys.executable, "-m", "services.worker"],
        cwd=installation.folder, env={**kept, "PYTHONPATH": str(ROOT), **settings}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("R2_BUCKET_NAME, R2_PRIVATE_BUCKET_NAME: no such bucket")
    assert ended.stderr.count("\n") == 1
