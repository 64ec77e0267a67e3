"""Sessions and refresh tokens in Redis. The only place that spells their keys."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from core.clients.redis import RedisKey, reply
from core.clock import now_ms
from core.logging import get_logger
from services.accounts.models import SESSION_TTL_SECONDS, Session

Result = TypeVar("Result")

log = get_logger(__name__)

REFRESH_GRACE_SECONDS = 30
TOUCH_AFTER_MS = 60_000

SESSION = RedisKey(
    "session:{sid}", "hash: user, role, times, browser of one sign-in; their own key, encrypted", SESSION_TTL_SECONDS
)
USER_SESSIONS = RedisKey("user:{user_id}:sessions", "set: ids of a user's sessions", SESSION_TTL_SECONDS)
REFRESH = RedisKey("refresh:{hash}", "hash: session of a refresh token, when it was used", SESSION_TTL_SECONDS)
TOKENS = RedisKey("tokens:{sid}", "sorted set: keys of the session's refresh tokens by their end", SESSION_TTL_SECONDS)

# KEYS: the token's entry, its successor's.
# ARGV: prefix of session keys, now (ms), grace (ms), ttl (s), the keys of users' sessions up to and after the user's
#       id, prefix of the sets of tokens
_ROTATE = """
local entry = redis.call('HMGET', KEYS[1], 'session', 'used_at')
if not entry[1] then return {'unknown'} end
local session = ARGV[1] .. entry[1]
if redis.call('EXISTS', session) == 0 then return {'unknown'} end
if entry[2] then
  if tonumber(ARGV[2]) - tonumber(entry[2]) > tonumber(ARGV[3]) then return {'reused', entry[1]} end
  if redis.call('HEXISTS', KEYS[2], 'used_at') == 1 then return {'overtaken', entry[1]} end
  return {'rotated', entry[1]}
end
redis.call('HSET', KEYS[1], 'used_at', ARGV[2])
redis.call('HSET', KEYS[2], 'session', entry[1])
redis.call('EXPIRE', KEYS[2], ARGV[4])
local tokens = ARGV[7] .. entry[1]
redis.call('ZREMRANGEBYSCORE', tokens, '-inf', ARGV[2])
redis.call('ZADD', tokens, tonumber(ARGV[2]) + tonumber(ARGV[4]) * 1000, KEYS[2])
redis.call('EXPIRE', tokens, ARGV[4])
redis.call('EXPIRE', session, ARGV[4])
redis.call('HSET', session, 'last_active', ARGV[2])
redis.call('EXPIRE', ARGV[5] .. redis.call('HGET', session, 'user_id') .. ARGV[6], ARGV[4])
return {'rotated', entry[1]}
"""

# Only a session that still stands is touched: one that was ended meanwhile must not come back as half a session.
# KEYS: session, the user's sessions.   ARGV: now (ms), ttl (s)
_TOUCH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], 'last_active', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
"""

# KEYS: session, the user's sessions, the session's tokens.   ARGV: session id
_REMOVE = """
if redis.call('SREM', KEYS[2], ARGV[1]) == 0 then return 0 end
for _, token in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do redis.call('DEL', token) end
redis.call('DEL', KEYS[1], KEYS[3])
return 1
"""

# One that has ended must not come back as half a session.
# KEYS: session.   ARGV: fields and values; an empty value removes the field
_CHANGE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
"""


@dataclass(frozen=True)
class Rotation:
    """`result`: rotated (also for a second tab within the grace), overtaken (the same, but its successor is used by
    now), reused, unknown.
    """

    result: str
    session_id: str = ""


class SessionStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._rotate = redis.register_script(_ROTATE)
        self._touch = redis.register_script(_TOUCH)
        self._remove = redis.register_script(_REMOVE)
        self._change = redis.register_script(_CHANGE)

    async def add(self, session: Session, refresh_fingerprint: str) -> None:
        refresh, tokens = REFRESH(hash=refresh_fingerprint), TOKENS(sid=session.id)
        pipeline = self._redis.pipeline()
        pipeline.hset(SESSION(sid=session.id), mapping={name: v for name, v in asdict(session).items() if v != ""})
        pipeline.expire(SESSION(sid=session.id), SESSION_TTL_SECONDS)
        pipeline.hset(refresh, "session", session.id)
        pipeline.expire(refresh, SESSION_TTL_SECONDS)
        pipeline.zadd(tokens, {refresh: now_ms() + SESSION_TTL_SECONDS * 1000})
        pipeline.expire(tokens, SESSION_TTL_SECONDS)
        pipeline.sadd(USER_SESSIONS(user_id=session.user_id), session.id)
        pipeline.expire(USER_SESSIONS(user_id=session.user_id), SESSION_TTL_SECONDS)
        await pipeline.execute()

    async def get(self, session_id: str) -> Session | None:
        """Read a session; using it prolongs it, at most once a minute."""
        return await self._used(await reply(self._redis.hgetall(SESSION(sid=session_id))))

    async def get_with(
        self, session_id: str, also: Callable[[Pipeline], Result]
    ) -> tuple[Session | None, Result, list[Any]]:
        """As `get`, with other commands in the same round trip: what `also` answered, and the replies to it.

        A reply may be an error, which is for the caller to judge: a Redis that refuses to write still reads.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(SESSION(sid=session_id))
        asked = also(pipeline)
        fields, *replies = await pipeline.execute(raise_on_error=False)
        if isinstance(fields, RedisError):
            raise fields
        return await self._used(fields), asked, replies

    async def _used(self, fields: dict[str, str]) -> Session | None:
        if not fields:
            return None
        session = _session(fields)
        now = now_ms()
        if now - session.last_active > TOUCH_AFTER_MS:
            keys = [SESSION(sid=session.id), USER_SESSIONS(user_id=session.user_id)]
            try:
                await self._touch(keys=keys, args=[now, SESSION_TTL_SECONDS])
            except ResponseError as error:
                log.warning("session not prolonged", reason=str(error))  # Redis reads, but refuses to write
        return session

    async def of_user(self, user_id: str) -> list[Session]:
        """The user's live sessions, the last used first; ids of dead ones are cleared away."""
        ids = sorted(await reply(self._redis.smembers(USER_SESSIONS(user_id=user_id))))
        pipeline = self._redis.pipeline(transaction=False)
        for session_id in ids:
            pipeline.hgetall(SESSION(sid=session_id))
        found = dict(zip(ids, await pipeline.execute(), strict=True))
        dead = [session_id for session_id, fields in found.items() if not fields]
        if dead:
            await reply(self._redis.srem(USER_SESSIONS(user_id=user_id), *dead))
        live = [_session(fields) for fields in found.values() if fields]
        return sorted(live, key=lambda session: session.last_active, reverse=True)

    async def remove(self, user_id: str, session_id: str) -> bool:
        """End a session of this user; False when there is none such."""
        keys = [SESSION(sid=session_id), USER_SESSIONS(user_id=user_id), TOKENS(sid=session_id)]
        return bool(await self._remove(keys=keys, args=[session_id]))

    async def remove_all(self, user_id: str) -> None:
        """End every session of this user, tokens and all."""
        for session_id in await reply(self._redis.smembers(USER_SESSIONS(user_id=user_id))):
            await self.remove(user_id, session_id)

    async def change(self, session_id: str, **fields: str) -> bool:
        """Set fields of a session that stands; an empty text takes one away. False when it has ended."""
        pairs = [part for pair in fields.items() for part in pair]
        return bool(await self._change(keys=[SESSION(sid=session_id)], args=pairs))

    async def change_all(self, user_id: str, **fields: str) -> None:
        """The same for every session of this user."""
        for session_id in await reply(self._redis.smembers(USER_SESSIONS(user_id=user_id))):
            await self.change(session_id, **fields)

    async def rotate(self, fingerprint: str, successor_fingerprint: str) -> Rotation:
        """Use a refresh token once; its successor's entry stands afterwards."""
        result, *rest = await self._rotate(
            keys=[REFRESH(hash=fingerprint), REFRESH(hash=successor_fingerprint)],
            args=[
                SESSION(sid=""), now_ms(), REFRESH_GRACE_SECONDS * 1000, SESSION_TTL_SECONDS,
                *USER_SESSIONS.pattern.split("{user_id}"), TOKENS(sid=""),
            ],
        )  # fmt: skip
        return Rotation(result, *rest)


def _session(fields: dict[str, str]) -> Session:
    times = {name: int(fields[name]) for name in ("created_at", "last_active")}
    texts = {name: fields.get(name, "") for name in ("user_agent", "blocked", "sealed_key", "masked_key")}
    return Session(**{**fields, **texts, **times})  # type: ignore[arg-type]
