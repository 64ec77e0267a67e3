"""`Idempotency-Key`: a call that is sent again is not made again (SPEC section 3, IETF draft 07).

A key is claimed in Redis before the work starts. While the work runs its claim is renewed; a claim that nobody renews
belongs to a process that died, and the next request with the key goes on with the same call id, whose reservation and
image are then found rather than made anew. A call that failed lets go of its key, so that it can be tried again.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clients.redis import RedisKey, delete_matching
from core.clock import Milliseconds, now_ms
from core.errors import AppError
from core.ids import keyed_id
from core.logging import get_logger

KEPT_SECONDS = 24 * 3600
LEASE_SECONDS = 15
RENEW_SECONDS = 5
DAY_MS = 24 * 3600 * 1000

CLAIM = RedisKey("idempotency:{caller}:{key}", "hash: call id, the body's hash, state, lease", KEPT_SECONDS)

# KEYS: the claim.   ARGV: call id, fingerprint, lease (ms), ttl (s)
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'call_id', 'fingerprint', 'state', 'lease_until', 'started_at')
if found[1] then
  if found[2] ~= ARGV[2] then return {'mismatch'} end
  if found[3] == 'done' then return {'done', found[1], found[5]} end
  if tonumber(found[4]) > now then return {'running'} end
  redis.call('HSET', KEYS[1], 'lease_until', now + tonumber(ARGV[3]))
  return {'resumed', found[1], found[5]}
end
redis.call('HSET', KEYS[1], 'call_id', ARGV[1], 'fingerprint', ARGV[2], 'state', 'running',
  'lease_until', now + tonumber(ARGV[3]), 'started_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {'new', ARGV[1], tostring(now)}
"""

# KEYS: the claim.   ARGV: call id, lease (ms).   A claim that is gone, or another's by now, is left alone.
_RENEW = """
if redis.call('HGET', KEYS[1], 'call_id') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease_until', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2]))
return 1
"""

# KEYS: the claim.   ARGV: call id, 1 for done or 0 to let go of it, ttl (s)
_FINISH = """
if redis.call('HGET', KEYS[1], 'call_id') ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'state', 'done')
return redis.call('EXPIRE', KEYS[1], ARGV[3])
"""

log = get_logger(__name__)


class Conflict(AppError):
    """The first call with this Idempotency-Key still runs."""

    code = "CONFLICT"
    status = 409
    type = "conflict"

    def __init__(self, retry_after: int) -> None:
        super().__init__("the first call still runs", retry_after=retry_after)


class IdempotencyMismatch(AppError):
    """This Idempotency-Key came with another body before."""

    code = "IDEMPOTENCY_MISMATCH"
    status = 422
    type = "idempotency_mismatch"


@dataclass(frozen=True)
class IdempotencyKey:
    """The caller's key, and a hash of the route and the body that it came with."""

    caller: str
    key: str
    fingerprint: str

    @classmethod
    def of(cls, caller: str, key: str, route: str, body: bytes) -> "IdempotencyKey":
        return cls(caller, key, hashlib.sha256(route.encode() + b"\0" + body).hexdigest())


@dataclass(frozen=True)
class Call:
    """The identity of one piece of work. `state` new: start it; resumed: a process died over it, look for what it left;
    done: it was made.
    """

    id: str
    started_at: Milliseconds
    state: Literal["new", "resumed", "done"] = "new"


class IdempotencyService:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._claim = redis.register_script(_CLAIM)
        self._renew = redis.register_script(_RENEW)
        self._finish = redis.register_script(_FINISH)

    @contextlib.asynccontextmanager
    async def claim(self, key: IdempotencyKey) -> AsyncIterator[Call]:
        """Hold the key while the work runs. Raises Conflict or IdempotencyMismatch.

        When the work ends well the claim stays for 24 h as done; when it raises, the key is free again.
        """
        call = await self._take(key)
        renewing = asyncio.create_task(self._keep(key, call))
        try:
            yield call
        except BaseException:
            await self._end(key, call, done=False)
            raise
        finally:
            renewing.cancel()
        await self._end(key, call, done=True)

    @staticmethod
    def candidates(key: IdempotencyKey) -> tuple[str, str]:
        """The call ids that this key may have had within 24 h: what is left to go by when Redis was emptied."""
        now = now_ms()
        return _call_id(key, now), _call_id(key, now - DAY_MS)

    async def forget(self, caller: str) -> None:
        """Remove the claims of somebody who has left."""
        await delete_matching(self._redis, CLAIM(caller=caller, key="*"))

    async def _take(self, key: IdempotencyKey) -> Call:
        answer = await self._claim(
            keys=[CLAIM(caller=key.caller, key=key.key)],
            args=[_call_id(key, now_ms()), key.fingerprint, LEASE_SECONDS * 1000, KEPT_SECONDS],
        )
        match answer:
            case ["mismatch"]:
                raise IdempotencyMismatch
            case ["running"]:
                raise Conflict(retry_after=RENEW_SECONDS)
            case ["new" | "resumed" | "done" as state, call_id, started_at]:
                return Call(call_id, int(started_at), state)
        raise AssertionError(f"the claim script answered {answer}")

    async def _keep(self, key: IdempotencyKey, call: Call) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew(keys=[CLAIM(caller=key.caller, key=key.key)], args=[call.id, LEASE_SECONDS * 1000])
            except RedisError as error:
                log.warning("idempotency lease not renewed", call_id=call.id, reason=str(error))

    async def _end(self, key: IdempotencyKey, call: Call, *, done: bool) -> None:
        try:
            await self._finish(keys=[CLAIM(caller=key.caller, key=key.key)], args=[call.id, int(done), KEPT_SECONDS])
        except RedisError as error:
            # The lease runs out; the next request with the key finds what was made by its call id.
            log.warning("idempotency claim not ended", done=done, reason=str(error))


def _call_id(key: IdempotencyKey, at: Milliseconds) -> str:
    """The same for one caller, key and body all day, so that it does not hang on Redis alone."""
    return keyed_id("call", at - at % DAY_MS, f"{key.caller}\0{key.key}\0{key.fingerprint}")
