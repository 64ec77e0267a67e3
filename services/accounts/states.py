"""One-time states of sign-ins under way, in Redis."""

import secrets

from redis.asyncio import Redis

from core.clients.redis import RedisKey, reply

STATE_SECONDS = 600
MAX_STATE_CHARACTERS = 100

STATE = RedisKey("oauth:state:{state}", "PKCE verifier of a GitHub sign-in under way", STATE_SECONDS)


class StateStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def new(self, verifier: str) -> str:
        state = secrets.token_urlsafe(32)
        await self._redis.set(STATE(state=state), verifier, ex=STATE_SECONDS)
        return state

    async def take(self, state: str) -> str | None:
        """The verifier, once: None for a state that is unknown, used or expired."""
        verifier: str | None = await reply(self._redis.getdel(STATE(state=state)))
        return verifier
