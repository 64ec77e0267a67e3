"""A bucket that refuses, stalls, breaks off or goes away: a 503 in time, nothing charged, left or lost."""

import asyncio
import time

import pytest
from sqlalchemy import func, select

from benchmarks.gemini_standin import GeminiStandin
from services.quota.ledger import charges
from tests.conftest import OpenService
from tests.storage.test_s3_service import image_key, open_over
from tests.support.answers import error_of
from tests.support.buckets import BucketServer
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

SECONDS = 25
# What dead calls hold comes back at once.
BRIEF = {"REQUEST_TIMEOUT_SECONDS": "2", "RESERVATION_GRACE_SECONDS": "1"}


class Bench:
    """A service over a bucket that a proxy stands before."""

    def __init__(self, service: RunningService, guest: Guest, moto: BucketServer, bucket: str) -> None:
        self.service = service
        self.guest = guest
        self._moto = moto
        self._bucket = bucket

    def objects(self) -> list[str]:
        return self._moto.keys(self._bucket, "users/")

    def image_key(self) -> str:
        return image_key(self._moto, self._bucket)

    async def charged(self) -> int:
        return await self.service.container.database.read(
            lambda connection: connection.execute(select(func.count()).select_from(charges)).scalar_one()
        )

    async def refuses_an_image(self) -> None:
        """Storage unavailable, in time, and nothing charged."""
        started = time.monotonic()
        response = await self.guest.generate()
        assert time.monotonic() - started < SECONDS
        error = error_of(response, 503, "STORAGE_UNAVAILABLE")
        assert error["details"]["component"] == "storage"
        assert int(response.headers["retry-after"]) >= 1
        assert await self.charged() == 0
        assert (await self.guest.history())["total"] == 0
        assert list((self.service.data_dir / "spool").iterdir()) == []

    async def works(self, used: int) -> None:
        await self.guest.image("after it")
        assert await self.guest.used() == used
        assert await self.charged() == used
        assert len(self.objects()) == 2 * used


@pytest.fixture
async def bench(open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, proxy: FaultProxy) -> Bench:
    bucket = moto.new_bucket()
    # The audit's own waits have a test elsewhere.
    service = await open_over(open_service, gemini, proxy.url, bucket, AUDIT_LOGGING_ENABLED="false", **BRIEF)
    await service.container.storage.check()
    return Bench(service, await service.guest(), moto, bucket)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("answer", status=403, code="AccessDenied"),
        Fault("answer", status=404, code="NoSuchBucket"),
        Fault("answer", status=503, code="SlowDown"),
        Fault("answer", "PUT", status=500, code="InternalError"),
        Fault("reset", "PUT"),
        Fault("lose_answer", "PUT", path=".png"),
        Fault("answer", "PUT", path=".json", status=403, code="AccessDenied"),
        Fault("lose_answer", "PUT", path=".json"),
        Fault("hang", "PUT", path=".png"),
        Fault("drip_head", "PUT", path=".png"),
    ],
    ids=lambda fault: f"{fault.harm}-{fault.method}-{fault.code if fault.harm == 'answer' else fault.path}",
)
async def test_an_image_that_cannot_be_stored_costs_nothing_and_leaves_nothing(
    bench: Bench, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.faults = [fault]
    await bench.refuses_an_image()
    assert await bench.guest.used() == 0
    assert bench.objects() == []
    proxy.faults = []
    await bench.works(used=1)


async def test_a_bucket_that_is_away_is_503_and_works_again_when_it_is_back(bench: Bench, proxy: FaultProxy) -> None:
    made = await bench.guest.image()
    await bench.guest.client.delete(f"/api/history/{made['history_id']}")
    await proxy.go_away()
    response = await bench.guest.generate()
    error_of(response, 503, "STORAGE_UNAVAILABLE")
    assert await bench.guest.used() == 1
    restored = await bench.guest.client.post(f"/api/history/{made['history_id']}/restore")
    assert restored.status_code == 200
    error_of(await bench.service.client.get(made["image_url"]), 503, "STORAGE_UNAVAILABLE")
    error_of(await bench.service.client.get(made["thumbnail_url"]), 503, "STORAGE_UNAVAILABLE")
    assert (await bench.service.client.get("/api/health/ready")).status_code == 503
    assert (await bench.service.client.get("/api/health")).json()["status"] == "unhealthy"
    await proxy.listen()
    assert (await bench.service.client.get(made["image_url"])).status_code == 200
    await bench.works(used=2)

    async def ready() -> bool:
        return (await bench.service.client.get("/api/health/ready")).status_code == 200

    assert await eventually(ready)


@pytest.mark.parametrize(
    "fault", [Fault("answer", "PUT", path=".json"), Fault("lose_answer", "PUT", path=".png")], ids=["record", "bytes"]
)
async def test_what_a_bucket_does_not_let_go_of_is_cleared_away_when_it_is_back(
    bench: Bench, proxy: FaultProxy, fault: Fault
) -> None:
    """The bytes are there, then the bucket goes: the points stay held until the sweep has removed the bytes."""
    proxy.faults = [fault, Fault("answer", "DELETE")]
    await bench.refuses_an_image()
    assert len(bench.objects()) == 1
    assert await bench.guest.used() == 1
    proxy.faults = []

    async def swept() -> bool:
        return await bench.service.container.recovery.sweep() == 1

    assert await eventually(swept)
    assert bench.objects() == []
    assert await bench.guest.used() == 0
    await bench.works(used=1)


async def test_an_answer_that_is_lost_once_is_no_second_image(bench: Bench, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("lose_answer", "PUT", path=".png", times=1)]
    await bench.works(used=1)
    assert [entry.endswith(".png") for entry in proxy.seen if entry.startswith("PUT /")].count(True) == 2


@pytest.mark.parametrize("harm", ["reset", "half_body", "cut_head", "answer"])
async def test_a_fault_that_passes_is_not_noticed(bench: Bench, proxy: FaultProxy, harm: str) -> None:
    proxy.faults = [Fault(harm, times=1)]  # type: ignore[arg-type]
    made = await bench.guest.image(include_base64=True)
    assert (await bench.service.client.get(made["thumbnail_url"])).status_code == 200
    for method in ("thumbnail_url", "image_url"):
        proxy.faults = [Fault(harm, "GET", times=1)]  # type: ignore[arg-type]
        assert (await bench.service.client.get(made[method])).status_code == 200
    assert await bench.guest.used() == 1


async def test_a_large_image_whose_connection_breaks_is_read_on_from_there(
    bench: Bench, gemini: GeminiStandin, proxy: FaultProxy
) -> None:
    gemini.configure(image_bytes=1_500_000)
    made = await bench.guest.image()
    whole = (await bench.service.client.get(made["image_url"])).content
    assert len(whole) > 1_200_000
    proxy.faults = [Fault("half_body", "GET", path=".png", times=1)]
    proxy.seen.clear()
    broken = await bench.service.client.get(made["image_url"])
    assert broken.content == whole
    assert len(proxy.seen) == 2
    part = await bench.service.client.get(made["image_url"], headers={"Range": "bytes=1000-1100000"})
    assert part.content == whole[1000:1_100_001]


async def test_an_image_that_drips_is_503_in_time_and_holds_no_thread(bench: Bench, proxy: FaultProxy) -> None:
    made = await bench.guest.image()
    proxy.faults = [Fault("drip", "GET", path=".png")]
    started = time.monotonic()
    answers = await asyncio.gather(*(bench.service.client.get(made["image_url"]) for _ in range(20)))
    for answer in answers:
        error_of(answer, 503, "STORAGE_UNAVAILABLE")
    assert time.monotonic() - started < SECONDS
    proxy.faults = []
    started = time.monotonic()
    assert (await bench.service.client.get(made["image_url"])).status_code == 200
    assert time.monotonic() - started < 3


async def test_the_loop_stays_free_while_the_bucket_hangs(bench: Bench, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("hang", "PUT")]
    calls = [asyncio.create_task(bench.guest.generate()) for _ in range(24)]
    await asyncio.sleep(1)
    started = time.monotonic()
    assert (await bench.service.client.get("/api/health/live")).status_code == 200
    assert (await bench.guest.history())["total"] == 0
    assert time.monotonic() - started < 2
    for response in await asyncio.gather(*calls):
        error_of(response, 503, "STORAGE_UNAVAILABLE")
    proxy.faults = []
    assert await bench.charged() == 0
    assert bench.objects() == []


async def test_a_bucket_that_hangs_from_the_start_is_503_in_time_for_many_at_once(
    open_service: OpenService, gemini: GeminiStandin, moto: BucketServer, proxy: FaultProxy
) -> None:
    """Nobody knows yet whose bucket it is, so all of them have to ask."""
    proxy.faults = [Fault("hang")]
    bucket = moto.new_bucket()
    service = await open_over(open_service, gemini, proxy.url, bucket, AUDIT_LOGGING_ENABLED="false", **BRIEF)
    bench = Bench(service, await service.guest(), moto, bucket)
    await asyncio.gather(*(bench.refuses_an_image() for _ in range(24)))
    assert await bench.guest.used() == 0
    proxy.faults = []
    await bench.works(used=1)
