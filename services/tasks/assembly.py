"""The parts of this domain, put together for the composition root."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.security import Vault
from services.generation.shares import ShareService
from services.ground import Ground
from services.history.links import LinkService
from services.idempotency import IdempotencyService
from services.quota.task_quota import TaskQuota
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
    """What tasks rest on. `kinds` are those beside our own."""

    forebears: Forebears
    idempotency: IdempotencyService
    shares: ShareService
    quota: TaskQuota
    webhooks: WebhookService
    links: LinkService
    kinds: Sequence[TaskKind]


def assemble_tasks(ground: Ground, given: TaskNeighbours) -> Tasks:
    settings, database, vault = ground.settings, ground.database, Vault(ground.keys)
    share, side_by_side = settings.tasks.max_tasks_per_user, settings.tasks.batch_concurrency
    references = TaskReferences(ground.storage, ground.spool, ground.files)
    own: list[TaskKind] = [
        ImageKind(name, given.shares, references, side_by_side=side_by_side) for name in ("generate", "batch")
    ]
    kinds = {kind.name: kind for kind in (*own, *given.kinds)}
    queue, events = TaskQueue(ground.redis), TaskEvents(ground.redis)
    ends = TaskEnds(
        database,
        queue,
        events,
        given.quota,
        kinds,
        references,
        ground.metrics,
        ground.fail_points,
        share,
    )
    service = TaskService(
        database,
        queue,
        events,
        ends,
        given.idempotency,
        vault,
        given.forebears,
        settings.tasks,
        settings.server,
        settings.quota,
    )
    runner = TaskRunner(database, queue, ground.channels, events, ends, kinds, vault, ground.fail_points)
    return Tasks(
        service=service,
        images=ImageTasks(
            service,
            given.shares,
            given.quota,
            references,
            given.webhooks,
            given.idempotency,
            guest_kept_ms=settings.storage.guest_retention_hours * 3600 * 1000,
        ),
        events=events,
        runner=runner,
        sweep=TaskSweep(database, queue, ends, given.quota, ground.metrics, worker_id=runner.worker_id, share=share),
        retention=TaskRetention(database, service, references, ground.metrics),
        operations=TaskOperations(database, queue),
        webhooks=TaskWebhooks(
            database,
            service,
            given.webhooks,
            given.idempotency,
            vault,
            given.links,
            settings.server.base_url,
        ),
    )
