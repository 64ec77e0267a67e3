"""What commands beside the service share: its parts opened as they are, and what went wrong in one line."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator

from redis.exceptions import RedisError

from core.clients.embedded_redis import EmbeddedRedisError, embedded_redis_url, running_redis
from core.clients.sqlite import sqlite_url
from core.errors import AppError
from core.instance_lock import InstanceLocked, acquire_instance_lock
from core.logging import configure_logging
from core.metrics import Metrics
from core.settings import Settings, SettingsError, embedded_database, load_settings
from migrations.check import check
from migrations.head import DatabaseRefused, current_is_head
from migrations.upgrade import upgrade
from services.container import Container, open_container, prove_parts
from services.providers.catalog import CatalogError


class OtherVersion(Exception):
    """The service that runs is of another version than this."""


def run_with_parts(work: Callable[[Container], Awaitable[None]]) -> int:
    """Do `work`, while the service runs or not. Answers the exit code: 0; 1 when a part was away: what was done until
    then stays, and the next run goes on from there; 2 for wrong settings; 130 when it was told to stop.
    """
    try:
        with _parts_of(load_settings()) as settings:
            configure_logging(settings)
            asyncio.run(_within(settings, work))
    except (SettingsError, CatalogError) as error:
        print(error, file=sys.stderr)
        return 2
    except (AppError, RedisError, DatabaseRefused, EmbeddedRedisError, OtherVersion, OSError) as error:
        print(f"not finished, run it again when the cause is gone: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the next run goes on from here", file=sys.stderr)
        return 130
    return 0


async def _within(settings: Settings, work: Callable[[Container], Awaitable[None]]) -> None:
    await prove_parts(settings)
    async with open_container(settings, Metrics()) as container:
        await work(container)


@contextlib.contextmanager
def _parts_of(settings: Settings) -> Iterator[Settings]:
    """Settings by which the container can be opened: what is embedded runs, and the database is of this version.

    Over a folder on which no service runs the embedded Redis is started, and none can be started meanwhile.
    """
    data = settings.storage.data_dir.expanduser().absolute()
    database_url = settings.database.database_url.get_secret_value()
    if database_url:
        check(database_url)
    if database_url and settings.redis.redis_url is not None:
        yield settings
        return
    (data / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.callback(acquire_instance_lock(data / "run" / "lock", data).release)
        except InstanceLocked:
            url = embedded_redis_url(data)
            if not database_url and not current_is_head(embedded_database(data)):
                raise OtherVersion(f"the service that runs over {data} is of another version") from None
        else:
            url = stack.enter_context(running_redis(data)).url if settings.redis.redis_url is None else ""
            if not database_url:
                upgrade(sqlite_url(embedded_database(data)))
        yield load_settings({"DATA_DIR": str(data)} | ({} if settings.redis.redis_url else {"REDIS_URL": url}))
