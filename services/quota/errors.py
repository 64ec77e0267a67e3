"""Why nothing could be reserved."""

import math
from collections.abc import Mapping

from core.errors import AppError, JsonValue


class QuotaExceeded(AppError):
    """The pool, the guests' share, the mode's limit or a service key's own cap is spent.

    `reason` is `pool`, `guest_share`, `mode` or `service_key`; the rest of the details is the body of `GET /api/quota`,
    and with a capped key `service_key`, the points of that key.
    """

    code = "QUOTA_EXCEEDED"
    status = 429
    type = "quota_exceeded"

    def __init__(self, reason: str, status: Mapping[str, JsonValue], retry_after: int) -> None:
        super().__init__(f"quota: {reason}", reason=reason, retry_after=retry_after, **status)


class Cooldown(AppError):
    """The next generation may start in `retry_after` seconds."""

    code = "COOLDOWN"
    status = 429
    type = "cooldown"

    def __init__(self, remaining_seconds: float) -> None:
        super().__init__(retry_after=max(1, math.ceil(remaining_seconds)))


class HoldGone(Exception):
    """The task has ended meanwhile: nothing can be charged to it any more. No caller ever sees this."""
