"""What one process at a time does, on whichever host: it holds a lease in Redis, and renews it while it works.

Whoever dies lets go of it within 15 s. A lease is no proof: a process that stood still for longer, or a Redis that has
forgotten, lets two work at once, so what is done under it has to bear that.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.logging import get_logger

LEASE_SECONDS = 15
RENEWALS = 3  # in the life of a lease, so that one or two may fail

# KEYS: the lease.   ARGV: its holder, its life (ms).   One that is another's by now is left alone.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: the lease.   ARGV: its holder.
_LET_GO = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

log = get_logger(__name__)


class Lease:
    def __init__(self, redis: Redis, key: str, seconds: float = LEASE_SECONDS) -> None:
        self._redis = redis
        self._key = key
        self._seconds = seconds
        self._renew = redis.register_script(_RENEW)
        self._let_go = redis.register_script(_LET_GO)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold it for the length of a `with` block; False: somebody else does. Raises RedisError when Redis is away."""
        holder = secrets.token_hex(8)
        if not await self._redis.set(self._key, holder, nx=True, px=self._life_ms):
            yield False
            return
        renewing = asyncio.create_task(self._keep(holder))
        try:
            yield True
        finally:
            renewing.cancel()
            await self._end(holder)

    @property
    def _life_ms(self) -> int:
        return int(self._seconds * 1000)

    async def _keep(self, holder: str) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            try:
                if not await self._renew(keys=[self._key], args=[holder, self._life_ms]):
                    log.warning("lease lost", key=self._key)
                    return
            except RedisError as error:
                log.warning("lease not renewed", key=self._key, reason=str(error))

    async def _end(self, holder: str) -> None:
        try:
            await self._let_go(keys=[self._key], args=[holder])
        except RedisError as error:
            log.warning("lease runs out by itself", key=self._key, reason=str(error))
