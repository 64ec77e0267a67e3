"""The door of moderation. The pipeline calls it with a prompt before anything is spent.

A ModerationCheck collects what the layers say; whoever finishes it writes its one audit entry. Each layer is a method
that takes what it needs, adds its LayerResult and, when it blocks, finishes the check and raises ContentBlocked.
"""

import time
from collections.abc import Callable

from core.clock import Milliseconds
from core.ids import new_id
from core.paging import Page
from core.setting_groups import ModerationSettings
from services.moderation.audit import AuditLog
from services.moderation.audit_index import AuditEntry, AuditFilter, AuditIndex
from services.moderation.classifier import SAFE, PromptClassifier
from services.moderation.errors import ContentBlocked
from services.moderation.inspection import Inspection
from services.moderation.keywords import KeywordSource
from services.moderation.models import (
    AI_LAYER,
    KEYWORD_LAYER,
    Decision,
    LayerResult,
    ModerationCheck,
    ModerationContext,
)
from services.storage.base import Storage

_DECISIONS = {None: Decision.UNDECIDED, SAFE: Decision.PASSED}


class ModerationService:
    """Keywords, the text model, audit.

    `clock` gives milliseconds since 1970; `on_audit_failure` is called once for each audit entry that was lost, and
    `on_verdict` with what the text model's layer decided. `classifier` None: there is no such layer.
    """

    def __init__(
        self,
        storage: Storage,
        settings: ModerationSettings,
        clock: Callable[[], Milliseconds],
        index: AuditIndex,
        *,
        on_audit_failure: Callable[[], None],
        on_verdict: Callable[[Decision], None] = lambda _: None,
        classifier: PromptClassifier | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keywords = KeywordSource(storage, settings.banned_keywords, clock)
        self._classifier = classifier
        self._on_verdict = on_verdict
        self._index = index
        self._audit = AuditLog(storage, with_prompts=settings.audit_log_prompts, on_failure=on_audit_failure)

    async def start(self) -> None:
        """Load the keywords, so that the first prompt need not wait for them."""
        if self._settings.content_filter_enabled:
            await self._keywords.matcher()

    async def close(self) -> None:
        """End what is under way in the background, and write what the index still lacks."""
        await self._keywords.close()
        if self._classifier is not None:
            await self._classifier.close()
        await self._index.close()

    async def inspect(self, prompt: str, context: ModerationContext) -> Inspection:
        """Layer 1, and what the others are asked by. Raises ContentBlocked as `check_keywords`."""
        return self._inspection(await self.check_keywords(prompt, context))

    def go_on(self, prompt: str, context: ModerationContext) -> Inspection:
        """The same for a prompt whose keywords were checked when its task was accepted."""
        return self._inspection(ModerationCheck(new_id("mod"), prompt, context, self._clock()))

    def _inspection(self, check: ModerationCheck) -> Inspection:
        return Inspection(check, None if self._classifier is None else self._classified, self.finish)

    async def check_keywords(self, prompt: str, context: ModerationContext) -> ModerationCheck:
        """Layer 1. Raises ContentBlocked after the audit entry is written.

        The check of a prompt that passed is for the layers that follow, and then for `finish`. With the filter
        switched off it has no layer.
        """
        check = ModerationCheck(new_id("mod"), prompt, context, self._clock())
        if not self._settings.content_filter_enabled:
            return check
        matcher = await self._keywords.matcher()
        started = time.perf_counter()
        found = matcher.find(prompt)
        duration_ms = (time.perf_counter() - started) * 1000
        decision = Decision.PASSED if found is None else Decision.BLOCKED
        check = check.with_layer(LayerResult(KEYWORD_LAYER, decision, duration_ms))
        if decision is Decision.BLOCKED:
            await self.finish(check)
            raise ContentBlocked(f"{check.id}: a banned keyword", reason=KEYWORD_LAYER)
        return check

    async def _classified(self, check: ModerationCheck) -> ModerationCheck:
        assert self._classifier is not None, "an inspection without a classifier asks for nothing"
        started = time.perf_counter()
        category = await self._classifier.category(check.prompt, check.prompt_sha256)
        duration_ms = (time.perf_counter() - started) * 1000
        decision = _DECISIONS.get(category, Decision.BLOCKED)
        self._on_verdict(decision)
        return check.with_layer(
            LayerResult(AI_LAYER, decision, duration_ms, category if decision is Decision.BLOCKED else None)
        )

    async def finish(self, check: ModerationCheck) -> None:
        """Write the audit entry of a check; never raises because of the storage. A check without a layer has none.

        Finishing a check again replaces its entry.
        """
        if not check.layers or not self._settings.audit_logging_enabled:
            return
        self._index.add(check)
        await self._audit.write(check)

    async def checks(self, where: AuditFilter, limit: int, offset: int) -> Page[AuditEntry]:
        """What was audited, the newest first."""
        return await self._index.page(where, limit, offset)

    async def forget(self, user_id: str) -> None:
        """Remove the audit of somebody who has left."""
        await self._audit.forget(user_id)
        await self._index.forget(user_id)
