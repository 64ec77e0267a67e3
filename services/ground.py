"""What all services stand on: settings, clients, storage, threads."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

from redis.asyncio import Redis

from core.clients.database import Database, open_database
from core.clients.redis import open_pool, open_redis
from core.clients.redis_channels import RedisChannels
from core.failpoints import FailPoints
from core.metrics import Metrics
from core.security import KeyRing, load_or_make_secret
from core.settings import Settings, SettingsError, embedded_database
from services.storage.base import Storage
from services.storage.opening import open_storage
from services.storage.spool import Spool

FILE_THREADS = 8
PIXEL_THREADS = 2


@dataclass(frozen=True)
class Ground:
    """`files`: threads that read and write; `pixels`: threads that decode and draw."""

    settings: Settings
    metrics: Metrics
    redis: Redis
    channels: RedisChannels
    database: Database
    keys: KeyRing
    spool: Spool
    storage: Storage
    files: ThreadPoolExecutor
    pixels: ThreadPoolExecutor
    fail_points: FailPoints

    @property
    def call_lifetime_seconds(self) -> float:
        """After which nothing of a call goes on any more (SPEC section 9)."""
        return self.settings.server.request_timeout_seconds + self.settings.quota.reservation_grace_seconds


def open_ground(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Ground:
    """Raises SettingsError. `stack` closes what is opened here."""
    data_dir = settings.storage.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    files, pixels = open_threads(stack, FILE_THREADS, "files"), open_threads(stack, PIXEL_THREADS, "pixels")
    redis, channels = _open_redis(settings, stack)
    database = open_database(
        settings.database.database_url.get_secret_value(), embedded_database(data_dir), settings.server.web_concurrency
    )
    stack.push_async_callback(database.close)
    keys, spool = key_ring(settings), Spool(data_dir / "spool")
    return Ground(
        settings=settings,
        metrics=metrics,
        redis=redis,
        channels=channels,
        database=database,
        keys=keys,
        spool=spool,
        storage=open_storage(settings.storage, keys, spool, files, stack),
        files=files,
        pixels=pixels,
        fail_points=FailPoints(settings.debugging.fail_point),
    )


def open_threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    stack.push_async_callback(asyncio.to_thread, executor.shutdown)
    return executor


def key_ring(settings: Settings) -> KeyRing:
    given = settings.security.secret_key
    current = given or load_or_make_secret(settings.storage.data_dir / "secret_key")
    return KeyRing(current, settings.security.secret_key_previous)


def _open_redis(settings: Settings, stack: AsyncExitStack) -> tuple[Redis, RedisChannels]:
    url = settings.redis.redis_url
    if url is None:
        raise SettingsError(["REDIS_URL: is empty; scripts/run starts an embedded Redis and sets it"])
    redis = open_redis(url)
    stack.push_async_callback(redis.aclose)
    channels = RedisChannels(open_pool(url, decode_responses=True))
    stack.push_async_callback(channels.close)
    return redis, channels
