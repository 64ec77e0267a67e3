"""The parts of this domain, put together for the composition root."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from redis.asyncio import Redis

from core.clients.database import Database
from core.clients.redis_channels import RedisChannels
from core.failpoints import FailPoints
from core.metrics import Metrics
from core.security import Vault
from core.settings import Settings
from services.generation.service import GenerationService
from services.history.links import LinkService
from services.idempotency import IdempotencyService
from services.quota.task_quota import TaskQuota
from services.storage.base import Storage
from services.storage.spool import Spool
from services.tasks.ends import TaskEnds
from services.tasks.events import TaskEvents
from services.tasks.image_kind import ImageKind
from services.tasks.image_tasks import ImageTasks
from services.tasks.kinds import TaskKind
from services.tasks.operations import TaskOperations
from services.tasks.queue import TaskQueue
from services.tasks.references import TaskReferences
from services.tasks.retention import TaskRetention
from services.tasks.runner import TaskRunner
from services.tasks.service import Forebears, TaskService
from services.tasks.sweep import TaskSweep
from services.tasks.webhooks import TaskWebhooks
from services.webhooks.service import WebhookService


@dataclass(frozen=True)
class Tasks:
    service: TaskService
    images: ImageTasks
    events: TaskEvents
    runner: TaskRunner
    sweep: TaskSweep
    retention: TaskRetention
    operations: TaskOperations
    webhooks: TaskWebhooks


@dataclass(frozen=True)
class TaskNeighbours:
    """What tasks rest on. `threads` read and write files; `kinds` are those beside our own."""

    redis: Redis
    channels: RedisChannels
    database: Database
    storage: Storage
    spool: Spool
    vault: Vault
    forebears: Forebears
    idempotency: IdempotencyService
    generation: GenerationService
    quota: TaskQuota
    webhooks: WebhookService
    links: LinkService
    threads: Executor
    metrics: Metrics
    fail_points: FailPoints
    kinds: Sequence[TaskKind]


def assemble_tasks(settings: Settings, given: TaskNeighbours) -> Tasks:
    share, side_by_side = settings.tasks.max_tasks_per_user, settings.tasks.batch_concurrency
    references = TaskReferences(given.storage, given.spool, given.threads)
    own: list[TaskKind] = [
        ImageKind(name, given.generation, references, side_by_side=side_by_side) for name in ("generate", "batch")
    ]
    kinds = {kind.name: kind for kind in (*own, *given.kinds)}
    queue, events = TaskQueue(given.redis), TaskEvents(given.redis)
    ends = TaskEnds(
        given.database,
        queue,
        events,
        given.quota,
        kinds,
        references,
        given.metrics,
        given.fail_points,
        share,
    )
    service = TaskService(
        given.database,
        queue,
        events,
        ends,
        given.idempotency,
        given.vault,
        given.forebears,
        settings.tasks,
        settings.server,
        settings.quota,
    )
    runner = TaskRunner(given.database, queue, given.channels, events, ends, kinds, given.vault, given.fail_points)
    return Tasks(
        service=service,
        images=ImageTasks(
            service,
            given.generation,
            given.quota,
            references,
            given.webhooks,
            given.idempotency,
            guest_kept_ms=settings.storage.guest_retention_hours * 3600 * 1000,
        ),
        events=events,
        runner=runner,
        sweep=TaskSweep(
            given.database, queue, ends, given.quota, given.metrics, worker_id=runner.worker_id, share=share
        ),
        retention=TaskRetention(given.database, service, references, given.metrics),
        operations=TaskOperations(given.database, queue),
        webhooks=TaskWebhooks(
            given.database,
            service,
            given.webhooks,
            given.idempotency,
            given.vault,
            given.links,
            settings.server.base_url,
        ),
    )
