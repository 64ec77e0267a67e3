"""The client's way to a bucket: over TLS, through a proxy, and away from a connection that hangs."""

import asyncio
import contextlib
import re
import ssl
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.clients.s3 import S3Client
from core.clients.s3_errors import BucketUnavailable
from core.clients.s3_models import PutOptions, S3Access
from services.storage.base import Storage
from tests.storage.contract import BINARY, KEY, StorageContract, joined, listed
from tests.storage.test_s3 import open_client, open_storage
from tests.support.buckets import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer, certify, running_moto_tls
from tests.support.fault_proxy import Fault, FaultProxy


async def walk(storage: Storage, folder: Path) -> None:
    draft = StorageContract.another_draft(folder, bytes(600_000))
    await storage.put_file(KEY, draft, content_type="image/png", metadata={"mode": "basic"})
    await storage.put("users/a b/é.json", b"{}", content_type=BINARY)
    assert await joined(storage.stream(KEY)) == bytes(600_000)
    assert len(await joined(storage.stream(KEY, 100, 300_000))) == 300_000
    assert await listed(storage, "users/") == [KEY, "users/a b/é.json"]
    await storage.delete(KEY)
    assert await storage.get("users/a b/é.json") == b"{}"


async def test_over_tls_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_moto_tls(tmp_path) as server:
        bucket = server.new_bucket()
        client = open_client(server)
        with pytest.raises(BucketUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(bucket, KEY)
        await client.close()

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        client = open_client(server)
        await walk(open_storage(client, bucket, bucket), tmp_path)
        await client.close()


async def test_over_tls_too_a_thread_that_waits_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(tmp_path / "certificate.pem", tmp_path / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")

    async def read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(read_on, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = S3Client(S3Access(f"https://127.0.0.1:{port}", SecretStr("a"), SecretStr("b")))
    call = asyncio.create_task(client.get("bucket", KEY))
    await asyncio.sleep(0.5)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    started = time.monotonic()
    await client.close()  # waits for the threads
    assert time.monotonic() - started < 1
    server.close()


async def test_a_proxy_of_the_environment_is_used(
    moto: BucketServer, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.new_bucket()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    client = open_client(moto)
    await walk(open_storage(client, bucket, bucket), tmp_path)
    assert proxy.seen
    assert all(entry.split(" ")[1].startswith(f"{moto.url}/{bucket}") for entry in proxy.seen)
    await client.close()

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    proxy.seen.clear()
    client = open_client(moto)
    await client.get(bucket, "users/a b/é.json")
    assert proxy.seen == []
    await client.close()


async def test_a_bucket_of_another_region_than_its_address_says_is_found_and_then_known(tmp_path: Path) -> None:
    """AWS answers so where an endpoint names no region."""
    asked = list[bool]()
    stored = list[int]()
    conversations = list[asyncio.Task[None] | None]()
    elsewhere = (
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message>"
        b"<Region>eu-west-1</Region></Error>"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                (length,) = re.findall(r"content-length: (\d+)", head) or ["0"]
                body = await reader.readexactly(int(length))
                asked.append("/eu-west-1/s3/" in head)
                if asked[-1]:
                    stored.append(len(body))
                    writer.write(b'HTTP/1.1 200 OK\r\netag: "0"\r\ncontent-length: 0\r\n\r\n')
                else:
                    header = b"HTTP/1.1 400 Bad Request\r\nx-amz-bucket-region: eu-west-1\r\n"
                    writer.write(header + b"content-length: %d\r\n\r\n" % len(elsewhere) + elsewhere)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = S3Client(S3Access(url, SecretStr("a"), SecretStr("b")))
    image = StorageContract.another_draft(tmp_path, bytes(600_000))
    await client.put_file("bucket", KEY, image, PutOptions("image/png"))
    await client.put("bucket", "a.json", b"{}", PutOptions(BINARY))
    assert stored == [600_000, 2]
    assert asked == [False, False, True, True]
    await client.close()
    await asyncio.gather(*filter(None, conversations))
    server.close()


@pytest.mark.parametrize("harm", ["hang", "drip_head", "drip"])
async def test_who_is_not_waited_for_any_more_lets_go_of_the_thread(
    moto: BucketServer, proxy: FaultProxy, harm: str
) -> None:
    """As the health report and the audit do, which wait for a shorter time."""
    bucket = moto.new_bucket()
    moto.s3.put_object(Bucket=bucket, Key=KEY, Body=bytes(1000))
    client = S3Client(S3Access(proxy.url, SecretStr(ACCESS_KEY_ID), SecretStr(SECRET_ACCESS_KEY)))
    proxy.faults = [Fault(harm)]  # type: ignore[arg-type]
    calls = [asyncio.create_task(client.get(bucket, KEY)) for _ in range(16)]
    await asyncio.sleep(1)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    proxy.faults = []
    started = time.monotonic()
    assert await client.get(bucket, KEY) == bytes(1000)
    assert time.monotonic() - started < 2
    before = threading.active_count()
    await client.close()
    assert time.monotonic() - started < 4
    assert threading.active_count() < before


async def test_an_answer_that_is_cut_off_in_its_head_is_no_empty_object(moto: BucketServer, proxy: FaultProxy) -> None:
    bucket = moto.new_bucket()
    moto.s3.put_object(Bucket=bucket, Key=KEY, Body=bytes(1000))
    client = S3Client(S3Access(proxy.url, SecretStr(ACCESS_KEY_ID), SecretStr(SECRET_ACCESS_KEY)))
    proxy.faults = [Fault("cut_head")]
    for use in (client.get(bucket, KEY), client.head(bucket, KEY), joined(client.stream(bucket, KEY, 0, None))):
        with pytest.raises(BucketUnavailable, match="cut off"):
            await use
    with pytest.raises(BucketUnavailable, match="no list"):
        _ = [found async for found in client.list(bucket, "")]
    await client.close()


@pytest.mark.parametrize(
    "body",
    [
        "<html>sign in</html>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>much</Size>"
        "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTrunc",
    ],
)
async def test_what_is_no_list_is_not_taken_for_an_empty_one(moto: BucketServer, proxy: FaultProxy, body: str) -> None:
    client = S3Client(S3Access(proxy.url, SecretStr(ACCESS_KEY_ID), SecretStr(SECRET_ACCESS_KEY)))
    proxy.faults = [Fault("answer", status=200, body=body)]
    with pytest.raises(BucketUnavailable, match=r"no list|cut off"):
        _ = [found async for found in client.list(moto.new_bucket(), "")]
    await client.close()
