"""When a webhook is tried again."""

import random
from dataclasses import dataclass

from core.clock import Milliseconds
from services.webhooks.models import Attempt

# Standard Webhooks, read as times since the first try, so that the last one is 24 h after it (SPEC section 11).
STANDARD_SECONDS = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)


@dataclass(frozen=True)
class RetrySchedule:
    """`offsets` in seconds since the first try, ascending. `jitter` is the largest part of an offset that is added, but
    never more than `most_jitter` seconds: receivers that were away get what waits for them spread out.
    """

    offsets: tuple[float, ...] = STANDARD_SECONDS
    jitter: float = 0.1
    most_jitter: float = 300.0

    def next_try(self, first_at: Milliseconds, attempt: Attempt, now: Milliseconds) -> Milliseconds | None:
        """When to try again after `attempt`; None when that was the last one, or the receiver wants no more.

        `first_at`: when the first try began. What a receiver asks for by `Retry-After` postpones the next try, to the
        last one's time at the latest, and takes the place of those that would have come before. It brings none forward.
        """
        if attempt.ended:
            return None
        # Counted from the beginning of the try: one that ran out of time is late for its successor, and skips none.
        elapsed = (attempt.at - first_at) / 1000
        offset = next((offset for offset in self.offsets if offset > elapsed), None)
        if offset is None:
            return None
        planned = first_at + _ms(offset + self._added(offset))
        if attempt.retry_after is None:
            return max(planned, now)
        last = first_at + _ms(self.offsets[-1])
        return max(planned, min(now + _ms(attempt.retry_after), last), now)

    def _added(self, offset: float) -> float:
        return random.uniform(0, min(offset * self.jitter, self.most_jitter))


def _ms(seconds: float) -> Milliseconds:
    return round(seconds * 1000)
