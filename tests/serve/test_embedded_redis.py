"""The embedded Redis: the server of the wheel, in a folder, on a socket."""

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from core.clients.embedded_redis import (
    EmbeddedRedis,
    EmbeddedRedisError,
    prepare_embedded_redis,
    running_redis,
)


def process_of(redis: EmbeddedRedis) -> psutil.Process:
    with Redis.from_url(redis.url) as client:
        return psutil.Process(client.info("server")["process_id"])


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose path no Unix socket can have; what stands in for it elsewhere is removed afterwards."""
    folder = tmp_path / ("deep" * 25)
    elsewhere = prepare_embedded_redis(folder).socket.parent
    assert not elsewhere.is_relative_to(tmp_path)
    yield folder
    if elsewhere.is_symlink():
        elsewhere.unlink()
    else:
        shutil.rmtree(elsewhere)


async def test_it_answers_by_its_url_and_only_there(tmp_path: Path) -> None:
    redis = prepare_embedded_redis(tmp_path)
    assert not await redis.answers()
    with running_redis(tmp_path) as running:
        assert running == redis
        assert await redis.answers()
        async with AsyncRedis.from_url(redis.url, decode_responses=True) as client:
            await client.set("key", "value")
            assert await client.get("key") == "value"
        listening = [c for c in process_of(redis).net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
        assert listening == []
    assert not await redis.answers()


def test_its_data_survives_a_stop_and_kill_minus_9(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis, Redis.from_url(redis.url) as client:
        client.set("first", "1")
    with running_redis(tmp_path) as redis, Redis.from_url(redis.url) as client:
        assert client.get("first") == b"1"
        client.set("second", "2")
        process_of(redis).kill()
    with running_redis(tmp_path) as redis, Redis.from_url(redis.url) as client:
        assert client.get("second") == b"2"


def test_it_evicts_nothing_and_shows_its_name(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis, Redis.from_url(redis.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("append*")["appendonly"] == "yes"
        process = process_of(redis)
        assert process.name() == "nbl-redis"
        assert process.cmdline()[0].startswith("nbl-redis")


def test_only_its_owner_reaches_it(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis:
        for folder in (redis.socket.parent, redis.folder):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(redis.socket.stat().st_mode) == 0o700


def test_a_path_with_a_blank_and_a_percent_sign_is_quoted_in_the_url(tmp_path: Path) -> None:
    with running_redis(tmp_path / "my data at 50%20off") as redis, Redis.from_url(redis.url) as client:
        assert client.ping()


def test_a_long_path_gets_its_socket_in_a_private_folder_elsewhere(deep_folder: Path) -> None:
    with running_redis(deep_folder) as redis, Redis.from_url(redis.url) as client:
        assert client.ping()
        assert redis.socket.is_relative_to(tempfile.gettempdir())
        assert stat.S_IMODE(redis.socket.parent.stat().st_mode) == 0o700
        assert len(os.fsencode(redis.socket)) <= 100
        assert redis.folder == deep_folder / "redis"


@pytest.mark.parametrize("trap", ["open to others", "a link"])
def test_a_folder_elsewhere_that_is_not_private_is_refused(deep_folder: Path, tmp_path: Path, trap: str) -> None:
    folder = prepare_embedded_redis(deep_folder).socket.parent
    if trap == "a link":
        folder.rmdir()
        folder.symlink_to(tmp_path)
    else:
        folder.chmod(0o755)

    with pytest.raises(EmbeddedRedisError, match="belongs to this user alone"):
        prepare_embedded_redis(deep_folder)


def test_a_server_that_cannot_read_its_data_says_where_its_log_is(tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis, Redis.from_url(redis.url) as client:
        client.set("key", "value")
    for file in (redis.folder / "appendonlydir").glob("*.manifest"):
        file.write_text("nonsense\n", encoding="ascii")

    with pytest.raises(EmbeddedRedisError, match=str(redis.log)), running_redis(tmp_path):
        pass
    assert "manifest" in redis.log.read_text(encoding="utf-8")


async def test_a_server_that_still_loads_its_data_does_not_count_as_answering(tmp_path: Path) -> None:
    redis = prepare_embedded_redis(tmp_path)

    async def loading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"-LOADING Valkey is loading the dataset in memory\r\n")
        writer.close()

    async with await asyncio.start_unix_server(loading, redis.socket):
        assert not await redis.answers()
        assert not await asyncio.to_thread(redis.answers_now)
