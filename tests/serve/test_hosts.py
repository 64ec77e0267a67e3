"""Several hosts: two with an API alone, one with a worker alone, over one Redis, one PostgreSQL and one bucket."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.clients.embedded_redis import running_redis
from tests.support.buckets import BucketServer, bucket_settings, running_moto
from tests.support.installation import Installation, eventually, named
from tests.support.postgresql import running_postgres

SECRET_KEY = "0123456789abcdef0123456789ABCDEF"
STOP_SECONDS = 45


class Hosts:
    def __init__(self, folder: Path, bucket: str, moto: BucketServer, shared: dict[str, str]) -> None:
        self.bucket = bucket
        self.moto = moto
        self.shared = shared
        self.all: list[Installation] = []
        self._folder = folder

    def host(self, name: str) -> Installation:
        folder = self._folder / name
        folder.mkdir()
        self.all.append(Installation(folder))
        return self.all[-1]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with running_redis(tmp_path / "redis") as redis, running_postgres() as postgres, running_moto() as moto:
        postgres.sql("CREATE DATABASE shared")
        bucket = moto.new_bucket()
        shared = {
            "REDIS_URL": redis.url, "DATABASE_URL": postgres.url("shared"), "SECRET_KEY": SECRET_KEY,
            "TRIAL_COOLDOWN_SECONDS": "0", "TRASH_MINUTES": "0", **bucket_settings(moto.url, bucket),
        }  # fmt: skip
        hosts = Hosts(tmp_path, bucket, moto, shared)
        try:
            yield hosts
        finally:
            for host in hosts.all:
                host.clean_up()


def test_what_one_host_makes_another_shows_and_the_worker_clears_away(hosts: Hosts) -> None:
    first, second, third = hosts.host("first"), hosts.host("second"), hosts.host("third")
    first.migrate(**hosts.shared)
    leader = first.start("--only", "api", **hosts.shared)
    other = second.start("--only", "api", WEB_CONCURRENCY="2", **hosts.shared)
    worker = third.start("--only", "worker", **hosts.shared)
    assert [len(named(one, "nbl-api")) for one in (leader, other, worker)] == [1, 2, 0]
    assert [len(named(one, "nbl-worker")) for one in (leader, other, worker)] == [0, 0, 1]
    assert not any(named(one, "nbl-redis") for one in (leader, other, worker))

    tokens = httpx.post(f"{first.url}/api/auth/guest", json={}).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    with httpx.Client(headers=headers, timeout=30) as client:
        made = client.post(f"{first.url}/api/generate/basic", json={"prompt": "a lighthouse"}).json()["data"]
        leader.send_signal(signal.SIGTERM)
        assert leader.wait(STOP_SECONDS) == 0
        image_id = made["history_id"]
        assert client.get(f"{second.url}/api/history").json()["total"] == 1
        assert client.get(f"{second.url}/api/quota").json()["global"]["used"] == 1
        assert client.get(f"{second.url}/api/images/{image_id}").content.startswith(b"\x89PNG")
        assert hosts.moto.keys(hosts.bucket, "users/")
        assert client.delete(f"{second.url}/api/history/{image_id}").status_code == 200
    # No API is asked to: the worker finds it.
    assert eventually(lambda: not hosts.moto.keys(hosts.bucket, "users/"), seconds=40)
    assert httpx.get(f"{second.url}/api/health").json()["status"] == "healthy"


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_database_that_was_not_upgraded_is_said_before_anything_starts(hosts: Hosts, part: str) -> None:
    code, lines = hosts.host(part).refused("--only", part, **hosts.shared)
    assert code == 1
    assert "python -m migrations upgrade" in lines[-1]
