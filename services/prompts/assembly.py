"""The parts of this domain, put together for the composition root."""

from dataclasses import dataclass

from core.clock import now_ms
from services.ground import Ground
from services.idempotency import IdempotencyService
from services.moderation.service import ModerationService
from services.prompts.growth import LibraryGrower
from services.prompts.library import Library
from services.prompts.service import PromptService
from services.prompts.tools import PromptTools
from services.providers.service import ProviderService
from services.providers.structured import StructuredText
from services.quota.service import QuotaService


@dataclass(frozen=True)
class Prompts:
    service: PromptService
    tools: PromptTools
    grower: LibraryGrower


@dataclass(frozen=True)
class PromptNeighbours:
    """What prompts rest on."""

    idempotency: IdempotencyService
    providers: ProviderService
    text: StructuredText
    moderation: ModerationService
    quota: QuotaService


def assemble_prompts(ground: Ground, given: PromptNeighbours) -> Prompts:
    settings, library = ground.settings, Library(ground.storage, now_ms)
    kept_ms = settings.storage.guest_retention_hours * 3600 * 1000
    return Prompts(
        service=PromptService(ground.database, library, given.idempotency, guest_kept_ms=kept_ms),
        tools=PromptTools(
            given.providers, given.text, given.moderation, given.quota, trial_enabled=settings.quota.trial_enabled
        ),
        grower=LibraryGrower(ground.storage, library, given.providers, given.text),
    )
