"""Many objects deleted by one request: what the bucket is asked, and what it may answer."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from core.clients.s3 import S3Client
from core.clients.s3_errors import BucketUnavailable
from core.clients.s3_models import S3Access
from tests.support.buckets import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer
from tests.support.fault_proxy import Fault, FaultProxy

KEYS = [f"users/a/{number:02}.png" for number in range(10)]


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[S3Client]:
    client = S3Client(S3Access(proxy.url, SecretStr(ACCESS_KEY_ID), SecretStr(SECRET_ACCESS_KEY)))
    yield client
    await client.close()


@pytest.fixture
def bucket(moto: BucketServer) -> str:
    name = moto.new_bucket()
    for key in KEYS:
        moto.s3.put_object(Bucket=name, Key=key, Body=b"x")
    return name


def requests(proxy: FaultProxy, method: str) -> int:
    return len([entry for entry in proxy.seen if entry.startswith(f"{method} ")])


async def test_a_thousand_go_with_one_request_under_the_checksum_that_all_servers_know(
    client: S3Client, bucket: str, moto: BucketServer, proxy: FaultProxy
) -> None:
    assert await client.delete_many(bucket, [*KEYS[1:], *(f"b/{number}" for number in range(991))]) == {}
    assert moto.keys(bucket) == KEYS[:1]
    assert (requests(proxy, "POST"), requests(proxy, "DELETE")) == (1, 0)
    assert [name for name in proxy.last_headers if "md5" in name or "checksum" in name] == ["content-md5"]


@pytest.mark.parametrize("status", [400, 405, 501])
async def test_a_server_that_does_not_know_it_is_asked_for_each(
    client: S3Client, bucket: str, moto: BucketServer, proxy: FaultProxy, status: int
) -> None:
    proxy.faults = [Fault("answer", "POST", status=status, code="NotImplemented")]
    assert await client.delete_many(bucket, KEYS) == {}
    assert moto.keys(bucket) == []


async def test_one_that_may_not_go_is_told_and_the_others_go(
    client: S3Client, bucket: str, moto: BucketServer, proxy: FaultProxy
) -> None:
    kept = KEYS[7]
    proxy.faults = [
        Fault("answer", "POST", status=501),
        Fault("answer", "DELETE", path=kept, status=403, code="AccessDenied"),
    ]
    left = await client.delete_many(bucket, KEYS)
    assert list(left) == [kept]
    assert "AccessDenied" in left[kept]
    assert moto.keys(bucket) == [kept]


@pytest.mark.parametrize("harm", ["reset", "half_body", "cut_head", "lose_answer"])
async def test_an_answer_that_is_cut_off_says_nothing_and_the_next_try_does(
    client: S3Client, bucket: str, moto: BucketServer, proxy: FaultProxy, harm: str
) -> None:
    proxy.faults = [Fault(harm, "POST", times=1)]  # type: ignore[arg-type]
    assert await client.delete_many(bucket, KEYS) == {}
    assert requests(proxy, "POST") == 2
    assert moto.keys(bucket) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", "POST", status=503, code="SlowDown"),
        Fault("answer", "POST", status=403, code="AccessDenied"),
        Fault("cut_head", "POST"),
        Fault("half_body", "POST"),
        Fault("answer", "POST", status=200, body="<html>what stands before the bucket<p>"),
    ],
    ids=lambda fault: f"{fault.harm}-{fault.status}",
)
async def test_a_bucket_that_fails_as_a_whole_is_unavailable(
    client: S3Client, bucket: str, moto: BucketServer, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.faults = [fault]
    with pytest.raises(BucketUnavailable):
        await client.delete_many(bucket, KEYS)
    proxy.faults = []
    assert await client.delete_many(bucket, KEYS) == {}
    assert moto.keys(bucket) == []


async def test_what_the_answer_names_as_refused_or_does_not_name_is_left(
    client: S3Client, bucket: str, proxy: FaultProxy
) -> None:
    answer = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code><Message>held"
        "</Message></Error><Error><Key>c</Key><Code>NoSuchKey</Code></Error></DeleteResult>"
    )
    proxy.faults = [Fault("answer", "POST", status=200, body=answer)]
    left = await client.delete_many(bucket, ["a", "b", "c", "d"])
    assert left == {"b": "AccessDenied: held", "d": "the bucket does not say that it is gone"}
