"""The background process: tasks, and what is to be done again and again.

`python -m services.worker`; several may run, on several machines. Each job is one line that calls a service, and may
run more than once.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker
from redis.exceptions import RedisError
from setproctitle import setproctitle

from core.clients.redis import RedisKey, open_pool
from core.collector import start_collector
from core.logging import configure_logging, get_logger
from core.metrics import Metrics
from core.settings import Settings, SettingsError, load_settings
from services.container import Container, open_container, prove_parts
from services.providers.catalog import CatalogError
from services.storage.copies import remove_old_copies
from services.storage.opening import copies_folder
from services.tasks.worker import TaskWorker

PROCESS_NAME = "nbl-worker"
SWEEP_SECONDS = 5
RETENTION_SECONDS = 15
JOB_SECONDS = 600  # what a job has not done by then is for the next one
HEARTBEAT_SECONDS = 5
STOP_SECONDS = 20  # within the 30 s that the leader gives a process
# Nobody waits for an answer of the worker, which has to start again when it takes Redis for gone.
REDIS_SECONDS = 2
# Where both have to share a processor, those who wait for the API come first.
NICENESS = 5
# After which a thread that computes lets another go on. With Python's own 5 ms the thread that writes into SQLite would
# wait for the event loop in the middle of its transactions, and with it all other processes that want to write.
SWITCH_SECONDS = 0.0005

# arq's own; here for the documentation.
QUEUE = RedisKey("arq:{rest}", "the queue: jobs, locks, the workers' sign of life", None)

log = get_logger(__name__)


async def sweep(ctx: dict[str, Any]) -> int:
    return await _container(ctx).recovery.sweep()


async def retention(ctx: dict[str, Any]) -> None:
    await _container(ctx).retention.run()


async def forget_tasks(ctx: dict[str, Any]) -> int:
    return await _container(ctx).task_retention.forget_expired()


async def forget_prompts(ctx: dict[str, Any]) -> int:
    return await _container(ctx).prompts.service.forget_expired()


async def clear_references(ctx: dict[str, Any]) -> int:
    return await _container(ctx).task_retention.clear_orphans()


async def clear_chats(ctx: dict[str, Any]) -> int:
    return await _container(ctx).chats.departure.clear()


async def tend_search_index(ctx: dict[str, Any]) -> int:
    return await _container(ctx).search_index.tend()


async def finish_departures(ctx: dict[str, Any]) -> int:
    return await _container(ctx).departures.finish()


async def clean_spool(ctx: dict[str, Any]) -> int:
    return await asyncio.to_thread(_container(ctx).spool.remove_stale)


async def clean_copies(ctx: dict[str, Any]) -> int:
    """Local copies of what the bucket has."""
    storage = _container(ctx).settings.storage
    return await asyncio.to_thread(remove_old_copies, copies_folder(storage), storage.local_retention_days)


def _container(ctx: dict[str, Any]) -> Container:
    container: Container = ctx["container"]
    return container


async def run(settings: Settings, metrics: Metrics) -> None:
    """Work until the process is told to stop; what is under way then gets 30 s."""
    await prove_parts(settings)
    async with open_container(settings, metrics) as container:
        await work(container)


async def work(container: Container) -> None:
    """The same with a container that is open. Raises redis.exceptions.RedisError when Redis is away."""
    sys.setswitchinterval(SWITCH_SECONDS)
    chores, tasks = _chores(container), TaskWorker(container, REDIS_SECONDS)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    told = asyncio.create_task(stopping.wait())
    try:
        going_on = [asyncio.create_task(chores.async_run()), *tasks.start()]
        ended, _ = await asyncio.wait([told, *going_on], return_when=asyncio.FIRST_COMPLETED)
        log.info("worker stops")
        for task in ended:
            task.result()
    finally:
        told.cancel()
        await asyncio.gather(tasks.stop(), _stop_chores(chores))


def _chores(container: Container) -> Worker:
    url = container.settings.redis.redis_url
    assert url is not None, "open_container has checked it"
    return Worker(
        cron_jobs=[
            cron(sweep, second=set(range(0, 60, SWEEP_SECONDS)), keep_result=0, unique=True),
            cron(retention, second=set(range(0, 60, RETENTION_SECONDS)), keep_result=0, timeout=JOB_SECONDS),
            cron(finish_departures, second=set(range(5, 60, RETENTION_SECONDS)), keep_result=0, timeout=JOB_SECONDS),
            cron(forget_tasks, second=set(range(10, 60, RETENTION_SECONDS)), keep_result=0, timeout=JOB_SECONDS),
            cron(forget_prompts, second={40}, keep_result=0, timeout=JOB_SECONDS),
            cron(clear_references, minute={45}, second={15}, keep_result=0, timeout=JOB_SECONDS),
            cron(clear_chats, minute={50}, second={15}, keep_result=0, timeout=JOB_SECONDS),
            cron(tend_search_index, second={25}, keep_result=0, timeout=3600),
            cron(clean_spool, minute={0}, second={15}, keep_result=0),
            cron(clean_copies, minute={30}, second={15}, keep_result=0, timeout=JOB_SECONDS),
        ],
        # arq's own reading of an address leaves `%20` in paths and `%40` in passwords as they are.
        redis_pool=ArqRedis(open_pool(url, decode_responses=False, timeout_seconds=REDIS_SECONDS)),
        ctx={"container": container},
        handle_signals=False,
        health_check_interval=HEARTBEAT_SECONDS,
        log_results=False,
    )


async def _stop_chores(chores: Worker) -> None:
    chores.allow_pick_jobs = False
    if chores.tasks:
        await asyncio.wait(chores.tasks.values(), timeout=STOP_SECONDS)
    await chores.close()


def main() -> int:
    setproctitle(PROCESS_NAME)
    os.nice(NICENESS)
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    try:
        settings = load_settings()
        configure_logging(settings)
        start_collector()
        uvloop.run(run(settings, Metrics(Path(shared) if shared else None)))
    except (SettingsError, CatalogError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except RedisError as error:
        sys.stderr.write(f"Redis is away, so the worker ends and has to be started again: {error}\n")
        return os.EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
