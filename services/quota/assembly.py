"""The parts of this domain, put together for the composition root."""

from dataclasses import dataclass

from services.ground import Ground
from services.quota.service import QuotaService
from services.quota.store import QuotaStore
from services.quota.task_quota import TaskQuota


@dataclass(frozen=True)
class Quota:
    service: QuotaService
    of_tasks: TaskQuota


def assemble_quota(ground: Ground) -> Quota:
    store, lifetime = QuotaStore(ground.redis), ground.call_lifetime_seconds
    service = QuotaService(
        store, ground.database, ground.settings.quota, ground.metrics, call_lifetime_seconds=lifetime
    )
    return Quota(service, TaskQuota(service, store, ground.database, lifetime_ms=int(lifetime * 1000)))
