"""Three hosts: two with API and worker, one with Redis, PostgreSQL and a bucket. One of the two is cut off, and then
killed, under load: who calls the other one sees no error but 503s that come at once, and the books balance afterwards.
"""

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from core.clients.embedded_redis import prepare_embedded_redis
from core.supervisor import die_with_parent
from tests.faults.support import kill_tree, plain_client, sign_in
from tests.support.buckets import BucketServer, bucket_settings, running_moto
from tests.support.installation import Installation
from tests.support.namespaces import Network, NetworkHost
from tests.support.postgresql import PostgresServer, running_postgres
from tests.support.service import Guest
from tests.support.waiting import eventually

pytestmark = pytest.mark.soak_only

PORT, REDIS_PORT = 8000, 6379
CUT_OFF_SECONDS = 25  # longer than leases last
PAUSE_SECONDS = 1.0
MOST_503_SECONDS = 2.0
SETTINGS = {
    "SECRET_KEY": "0123456789abcdef0123456789ABCDEF", "HOST": "0.0.0.0", "PORT": str(PORT),
    "LOCAL_AUTH_ENABLED": "false", "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1",
    "TRIAL_GLOBAL_QUOTA": "100000", "TRIAL_BASIC_1K_LIMIT": "100000", "RATE_LIMIT_REQUESTS": "100000",
    # What a host had reserved when it was lost goes back after these.
    "REQUEST_TIMEOUT_SECONDS": "40", "RESERVATION_GRACE_SECONDS": "5",
}  # fmt: skip


@dataclass(frozen=True)
class Stores:
    postgres: PostgresServer
    moto: BucketServer
    host: NetworkHost
    bucket: str

    def rows(self, statement: str) -> list[str]:
        with self.host.inside():
            return self.postgres.sql(statement, "shared").splitlines()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    network.open()
    yield network
    network.close()


@pytest.fixture
def settings(network: Network, tmp_path: Path) -> Iterator[tuple[Stores, dict[str, str]]]:
    """What is on the third host, and how the others find it."""
    host = network.host()
    with contextlib.ExitStack() as stack:
        with host.inside():
            redis = prepare_embedded_redis(tmp_path / "redis")
            options = ["--port", str(REDIS_PORT), "--bind", "0.0.0.0", "--protected-mode", "no"]
            process = subprocess.Popen(
                [*redis.argv, *options], start_new_session=True, preexec_fn=die_with_parent()
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            postgres = stack.enter_context(running_postgres(listen_addresses="*"))
            postgres.sql("CREATE DATABASE shared")
            moto = stack.enter_context(running_moto(host.address))
        stores = Stores(postgres, moto, host, moto.new_bucket())
        yield stores, {
            **SETTINGS, **bucket_settings(moto.url, stores.bucket),
            "REDIS_URL": f"redis://{host.address}:{REDIS_PORT}",
            "DATABASE_URL": postgres.url("shared").replace("127.0.0.1", host.address),
        }  # fmt: skip


class Host(Installation):
    def __init__(self, folder: Path, host: NetworkHost) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.host = host

    @property
    def url(self) -> str:
        return f"http://{self.host.address}:{PORT}"

    def serve(self, **settings: str) -> subprocess.Popen[bytes]:
        with self.host.inside():
            return self.start(**settings)


@pytest.fixture
def hosts(network: Network, settings: tuple[Stores, dict[str, str]], tmp_path: Path) -> Iterator[list[Host]]:
    hosts = [Host(tmp_path / name, network.host()) for name in ("first", "second")]
    yield hosts
    for host in hosts:
        host.clean_up()


@dataclass
class Callers:
    """Of one host. `answers`: status and seconds of each; `accepted`: tasks; `lost`: how many got no answer."""

    url: str
    answers: list[tuple[int, float]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    lost: int = 0

    async def go_on(self, guest: Guest) -> None:
        async with plain_client(self.url, {"Authorization": guest.client.headers["authorization"]}) as client:
            while True:
                body = {"params": {"prompt": "a lighthouse"}}
                answer = await self._ask(client.post("/api/v1/tasks/generate", json=body))
                if answer is not None and answer.status_code == 202:
                    self.accepted.append(answer.json()["data"]["task_id"])
                for path in ("/api/v1/tasks", "/api/quota", "/api/history"):
                    await self._ask(client.get(path))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, asked: Awaitable[httpx.Response]) -> httpx.Response | None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(20):
                answer = await asked
        except (httpx.TransportError, TimeoutError):
            self.lost += 1
            return None
        self.answers.append((answer.status_code, time.monotonic() - begun))
        return answer


async def test_a_host_that_is_cut_off_and_one_that_dies(
    hosts: list[Host], settings: tuple[Stores, dict[str, str]]
) -> None:
    stores, given = settings
    first, second = hosts
    with stores.host.inside():
        second.migrate(DATABASE_URL=given["DATABASE_URL"])
    leaders = [await asyncio.to_thread(host.serve, **given) for host in hosts]
    hurt, well = Callers(first.url), Callers(second.url)
    async with plain_client(second.url) as client:
        guests = [await sign_in(client) for _ in range(4)]
    going_on = [
        asyncio.create_task(callers.go_on(guest)) for callers, guest in zip([hurt, well] * 2, guests, strict=True)
    ]
    await asyncio.sleep(5)
    first.host.cut_off()
    await asyncio.sleep(CUT_OFF_SECONDS)
    first.host.connect()
    await asyncio.sleep(5)
    await asyncio.to_thread(kill_tree, leaders[0])
    await asyncio.sleep(5)
    for one in going_on:
        one.cancel()
    await asyncio.gather(*going_on, return_exceptions=True)

    assert (well.lost, {status for status, _ in well.answers} - {200, 202, 503}) == (0, set())
    assert [seconds for status, seconds in well.answers if status == 503 and seconds > MOST_503_SECONDS] == []
    assert len(well.accepted) > CUT_OFF_SECONDS / 2 / PAUSE_SECONDS, "it was hardly served"
    assert hurt.lost > 0, "nothing was cut off"
    await _balanced(stores, second.url, {*hurt.accepted, *well.accepted})
    for guest in guests:
        await guest.client.aclose()


async def _balanced(stores: Stores, url: str, accepted: set[str]) -> None:
    async def closed() -> bool:
        return stores.rows("SELECT count(*) FROM tasks WHERE closed_at IS NULL") == ["0"]

    assert await eventually(closed, 90), stores.rows("SELECT id, status, worker FROM tasks WHERE closed_at IS NULL")
    assert accepted <= set(stores.rows("SELECT id FROM tasks WHERE status = 'completed'"))
    assert stores.rows("SELECT count(*) FROM quota_holds") == ["0"]
    (made,) = stores.rows("SELECT sum(completed) FROM tasks")
    assert stores.rows("SELECT count(DISTINCT task_id) FROM images") == [made]
    assert stores.rows("SELECT count(*) FROM images") == [made]
    assert stores.rows("SELECT sum(points) FROM charges") == [made]
    keys = set(stores.moto.keys(stores.bucket, "users/"))
    images = set(stores.rows("SELECT key FROM images"))
    assert keys == images | {f"{key.rpartition('.')[0]}.json" for key in images}
    async with plain_client(url) as client:
        guest = await sign_in(client)

        async def settled() -> bool:
            return await guest.used() == int(made)

        assert await eventually(settled, 90), (await guest.used(), made)
        await guest.client.aclose()
