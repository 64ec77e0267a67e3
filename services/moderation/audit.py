"""The moderation audit: one JSON object an entry, in the bucket, beside the images' records."""

import asyncio
from collections.abc import Callable

import orjson

from core.clock import rfc3339, utc
from core.errors import StorageUnavailable
from core.logging import get_logger
from services.moderation.models import ModerationCheck
from services.storage.base import Storage

WRITE_TIMEOUT_SECONDS = 10.0
ANONYMOUS = "anonymous"

_logger = get_logger(__name__)


def audit_key(check: ModerationCheck) -> str:
    """`logs/content_moderation/usr_01…/2026-01-31/120000_mod_01….json`, in UTC; first whose it is, so that somebody who
    leaves takes their entries with them.
    """
    return f"{_prefix(check.context.user_id)}{utc(check.started_at):%Y-%m-%d/%H%M%S}_{check.id}.json"


def _prefix(user_id: str | None) -> str:
    return f"logs/content_moderation/{user_id or ANONYMOUS}/"


class AuditLog:
    """Writes finished checks. `on_failure` is called once for each entry that was lost, for a counter."""

    def __init__(self, storage: Storage, *, with_prompts: bool, on_failure: Callable[[], None]) -> None:
        self._storage = storage
        self._with_prompts = with_prompts
        self._on_failure = on_failure

    async def write(self, check: ModerationCheck) -> None:
        """Store the entry of a check. A bucket that is away costs the entry, is logged and counted, never raised."""
        key = audit_key(check)
        data = orjson.dumps(self._entry(check))
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                await self._storage.put(key, data, content_type="application/json")
        except (StorageUnavailable, TimeoutError) as error:
            _logger.error("moderation_audit_lost", object=key, decision=check.decision, error=repr(error))
            self._on_failure()

    async def forget(self, user_id: str) -> None:
        """Remove the entries of somebody who has left."""
        async for entry in self._storage.list(_prefix(user_id)):
            await self._storage.delete(entry.key)

    def _entry(self, check: ModerationCheck) -> dict[str, object]:
        entry: dict[str, object] = {
            "check_id": check.id,
            "timestamp": rfc3339(check.started_at),
            "prompt_sha256": check.prompt_sha256,
            "user_id": check.context.user_id,
            "request_id": check.context.request_id,
            "mode": check.context.mode,
            "layers": [layer.as_entry() for layer in check.layers],
            "decision": check.decision,
            "duration_ms": round(check.duration_ms, 3),
        }
        if self._with_prompts:
            entry["prompt"] = check.prompt_as_text
        return entry
