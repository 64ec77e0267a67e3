"""What the text model has said of prompts, for a day, so that the same prompt is asked about once."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clients.redis import RedisKey
from core.logging import get_logger

VERDICT = RedisKey("moderation:{sha256}", "what the text model said of a prompt: safe, or a category", 24 * 3600)

log = get_logger(__name__)


class VerdictStore:
    """Redis away: nothing is known, nothing is kept, and the model is asked."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, prompt_sha256: str) -> str | None:
        try:
            found: str | None = await self._redis.get(VERDICT(sha256=prompt_sha256))
        except RedisError as error:
            log.warning("moderation cache not read", reason=str(error))
            return None
        return found

    async def set(self, prompt_sha256: str, category: str) -> None:
        try:
            await self._redis.set(VERDICT(sha256=prompt_sha256), category, ex=VERDICT.ttl)
        except RedisError as error:
            log.warning("moderation cache not written", reason=str(error))
