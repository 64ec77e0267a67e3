"""The queue that carries to workers what may run now: arq's, behind the few words that we need of it.

The rows are the truth. A ticket that is lost is written anew by the sweep, one that comes twice or too late finds a
task that is not waiting any more.
"""

from collections.abc import Iterable, Sequence

from arq.constants import expires_extra_ms, in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clock import now_ms
from core.logging import get_logger
from services.tasks.models import Task

QUEUE_NAME = "arq:tasks"
JOB = "run_task"
# Channel on which workers hear that somebody wants a running task to be cancelled.
CANCELS = "tasks:cancels"

log = get_logger(__name__)


class TaskQueue:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def enqueue(self, tasks: Iterable[Task]) -> None:
        """Those that may run. Without Redis the sweep does it later."""
        # What ArqRedis.enqueue_job writes, without its look whether there is such a job: no ticket comes again.
        pipeline = self._redis.pipeline()
        for task in tasks:
            if task.queued_at is not None:
                job = serialize_job(JOB, (task.id,), {}, None, task.queued_at)
                pipeline.psetex(job_key_prefix + task.ticket, expires_extra_ms, job)
                pipeline.zadd(QUEUE_NAME, {task.ticket: task.queued_at})
        try:
            await pipeline.execute()
        except RedisError as error:
            log.warning("tasks are queued later", reason=str(error))

    async def started(self, task: Task) -> None:
        """Its ticket has done its service. arq would keep it until the end, for all workers to look at each time."""
        try:
            await self._redis.zrem(QUEUE_NAME, task.ticket)
        except RedisError as error:
            log.warning("ticket of a running task is left", task_id=task.id, reason=str(error))

    async def cancel(self) -> None:
        """Tell all workers to look which of their tasks are to be cancelled; without Redis they look by themselves."""
        try:
            await self._redis.publish(CANCELS, "")
        except RedisError as error:
            log.warning("workers learn of a cancel later", reason=str(error))

    async def depth(self) -> int:
        """How many tasks may run now and wait for a worker."""
        count: int = await self._redis.zcard(QUEUE_NAME)
        return count

    async def lost(self, tasks: Sequence[Task]) -> list[Task]:
        """Of waiting tasks those that no worker will come to: their ticket is gone, or was taken by one that died."""
        pipeline = self._redis.pipeline(transaction=False)
        for task in tasks:
            pipeline.zscore(QUEUE_NAME, task.ticket)
            pipeline.exists(in_progress_key_prefix + task.ticket)
        found = await pipeline.execute()
        return [task for task, score, taken in zip(tasks, found[::2], found[1::2], strict=True) if not score or taken]

    async def oldest(self, older_than_ms: int, limit: int) -> list[str]:
        """Tickets that have been there for a while."""
        tickets: list[str] = await self._redis.zrangebyscore(
            QUEUE_NAME, "-inf", now_ms() - older_than_ms, start=0, num=limit
        )
        return tickets

    async def forget(self, tickets: Sequence[str]) -> None:
        """Tear up tickets that lead nowhere any more, so that workers do not look at them each time."""
        if not tickets:
            return
        keys = [
            prefix + ticket
            for ticket in tickets
            for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
        ]
        pipeline = self._redis.pipeline()
        pipeline.zrem(QUEUE_NAME, *tickets)
        pipeline.delete(*keys)
        await pipeline.execute()
