"""Rate limits: how many requests of one caller, or from one address, in a window of time.

Windows are aligned to the clock, so that two plain commands count a request and tell all there is to know; they travel
in one round trip with the session that the caller is known by (docs/adr/0004). Redis away: requests pass, and a metric
says so.
"""

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from core.clients.redis import RedisKey, delete_matching
from core.clock import now_ms
from core.errors import RateLimited
from core.logging import get_logger
from core.metrics import Metrics

LIMIT = RedisKey(
    "ratelimit:{caller}:{route}:{window}", "requests of one window (guests and sign-ins: of their own length)", 60
)

log = get_logger(__name__)


@dataclass(frozen=True)
class Limit:
    """`amount` requests in `window_seconds`; `name` is the route's part of the key."""

    name: str
    amount: int
    window_seconds: int = 60


@dataclass(frozen=True)
class Allowance:
    """What is left of a window; `reset_seconds` until the next one. Below 0: this request was too many."""

    limit: Limit
    remaining: int
    reset_seconds: int

    def enforce(self) -> None:
        """Raises RateLimited when the window was full."""
        if self.remaining < 0:
            raise RateLimited(self.limit.amount, self.limit.window_seconds, self.reset_seconds)


class RateLimiter:
    def __init__(self, redis: Redis, metrics: Metrics) -> None:
        self._redis = redis
        self._metrics = metrics

    async def hit(self, caller: str, limit: Limit) -> Allowance:
        """Count one request."""
        pipeline = self._redis.pipeline(transaction=False)
        reset = self.ask(pipeline, caller, limit)
        try:
            used, _ = await pipeline.execute()
        except RedisError as error:
            used = error
        return self.allowance(limit, used, reset)

    def allowance(self, limit: Limit, used: int | RedisError, reset: int) -> Allowance:
        """What the reply to `ask` leaves; an error lets the request pass, and a metric says so."""
        if isinstance(used, RedisError):
            self._metrics.rate_limit_failures.inc()
            log.warning("rate limit not checked", reason=str(used))
            used = 0
        return Allowance(limit, limit.amount - used, reset)

    @staticmethod
    def ask(pipeline: Pipeline, caller: str, limit: Limit) -> int:
        """Let a pipeline count one request: its first reply is how many there were in this window, this one included.

        Answers the seconds until the next window.
        """
        window, passed = divmod(now_ms() // 1000, limit.window_seconds)
        key = LIMIT(caller=caller, route=limit.name, window=str(window))
        pipeline.incr(key)
        pipeline.expire(key, limit.window_seconds)
        return limit.window_seconds - passed

    async def forget(self, caller: str) -> None:
        """Remove the counts of somebody who has left."""
        await delete_matching(self._redis, LIMIT(caller=caller, route="*", window="*"))
