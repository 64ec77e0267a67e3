"""The door of moderation. The pipeline calls it with a prompt before anything is spent.

A ModerationCheck collects what the layers say; whoever finishes it writes its one audit entry. Each layer is a method
that takes what it needs, adds its LayerResult and, when it blocks, finishes the check and raises ContentBlocked.
"""

import time
from collections.abc import Callable

from core.clock import Milliseconds
from core.ids import new_id
from core.setting_groups import ModerationSettings
from services.moderation.audit import AuditLog
from services.moderation.errors import ContentBlocked
from services.moderation.keywords import KeywordSource
from services.moderation.models import Decision, LayerResult, ModerationCheck, ModerationContext
from services.storage.base import Storage

KEYWORD_LAYER = "keyword"


class ModerationService:
    """Keywords and audit.

    `clock` gives milliseconds since 1970; `on_audit_failure` is called once for each audit entry that was lost.
    """

    def __init__(
        self,
        storage: Storage,
        settings: ModerationSettings,
        clock: Callable[[], Milliseconds],
        *,
        on_audit_failure: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keywords = KeywordSource(storage, settings.banned_keywords, clock)
        self._audit = AuditLog(storage, with_prompts=settings.audit_log_prompts, on_failure=on_audit_failure)

    async def start(self) -> None:
        """Load the keywords, so that the first prompt need not wait for them."""
        if self._settings.content_filter_enabled:
            await self._keywords.matcher()

    async def close(self) -> None:
        """End a re-reading of the keywords that is under way."""
        await self._keywords.close()

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

    async def finish(self, check: ModerationCheck) -> None:
        """Write the audit entry of a check; never raises because of the storage. A check without a layer has none.

        Finishing a check again replaces its entry.
        """
        if check.layers and self._settings.audit_logging_enabled:
            await self._audit.write(check)

    async def forget(self, user_id: str) -> None:
        """Remove the audit of somebody who has left."""
        await self._audit.forget(user_id)
