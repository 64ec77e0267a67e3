"""The parts of this domain, put together for the composition root."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.generation.delivery import ImageKeeper
from services.generation.recovery import Recovery
from services.generation.service import GenerationService
from services.generation.shares import ShareService
from services.generation.steps import Steps
from services.ground import Ground
from services.history.service import HistoryService
from services.idempotency import IdempotencyService
from services.moderation.service import ModerationService
from services.providers.service import ProviderService
from services.quota.assembly import Quota

DRAIN_SECONDS = 3  # after uvicorn gave requests 25 s, within the 30 s that the leader gives a process


@dataclass(frozen=True)
class Generation:
    service: GenerationService
    shares: ShareService
    recovery: Recovery


@dataclass(frozen=True)
class GenerationNeighbours:
    """What the pipeline rests on."""

    providers: ProviderService
    moderation: ModerationService
    quota: Quota
    history: HistoryService
    idempotency: IdempotencyService


def assemble_generation(ground: Ground, given: GenerationNeighbours, stack: AsyncExitStack) -> Generation:
    """`stack` waits for what is under way."""
    settings, quota = ground.settings, given.quota
    keeper = ImageKeeper(ground.storage, given.history, quota.service, ground.files, ground.fail_points)
    steps = Steps(
        given.providers,
        keeper,
        settings.storage,
        ground.metrics,
        ground.fail_points,
        trial_enabled=settings.quota.trial_enabled,
    )
    service = GenerationService(
        steps, given.moderation, quota.service, keeper, given.idempotency, ground.metrics, ground.fail_points
    )
    shares = ShareService(steps, given.moderation, keeper, ground.fail_points)
    stack.push_async_callback(shares.drain, DRAIN_SECONDS)
    stack.push_async_callback(service.drain, DRAIN_SECONDS)
    return Generation(service, shares, Recovery(quota.service, quota.of_tasks, keeper, ground.metrics))
