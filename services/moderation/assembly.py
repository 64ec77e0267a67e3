"""The parts of this domain, put together for the composition root."""

from core.clock import now_ms
from services.ground import Ground
from services.moderation.audit_index import AuditIndex
from services.moderation.classifier import PromptClassifier
from services.moderation.service import ModerationService
from services.moderation.verdicts import VerdictStore
from services.providers.service import ProviderService, TextRoute
from services.providers.structured import StructuredText


def assemble_moderation(ground: Ground, providers: ProviderService, text: StructuredText) -> ModerationService:
    def operators() -> TextRoute:
        return providers.route_text(own_key=None, operator_key_allowed=True)

    settings, metrics = ground.settings, ground.metrics
    by_model = settings.moderates_by_model
    index = AuditIndex(
        ground.database,
        with_prompts=settings.moderation.audit_log_prompts,
        on_failure=metrics.audit_failures.inc,
    )
    return ModerationService(
        ground.storage,
        settings.moderation,
        now_ms,
        index,
        on_audit_failure=metrics.audit_failures.inc,
        on_verdict=lambda decision: metrics.verdicts.labels(decision).inc(),
        classifier=PromptClassifier(text, operators, VerdictStore(ground.redis)) if by_model else None,
    )
