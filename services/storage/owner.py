"""Whose bucket it is: an object in it names the installation that keeps its images there.

Two installations on one bucket would each take the other's images for leftovers when they rebuild their index, and
one user's folder would mix what was made on both. So the second one does not start.

An installation is known by what follows from its SECRET_KEY, which all its hosts share; while the key is changed from
host to host, the object names the new one and the one before.
"""

import asyncio
import hashlib

import orjson

from core.clients.s3 import S3Client
from core.clients.s3_errors import BucketUnavailable, KeyMissing, KeyTaken
from core.clients.s3_models import PutOptions
from core.errors import StorageUnavailable
from core.security import KeyRing

OWNER_KEY = "config/installation.json"
CLAIM_SECONDS = 10
_OPTIONS = PutOptions("application/json")
_ONLY_NEW = PutOptions("application/json", only_new=True)


class ForeignBucket(StorageUnavailable):
    """The bucket belongs to another installation, or what names its owner cannot be read."""


def installation_ids(keys: KeyRing) -> tuple[str, ...]:
    """By the current SECRET_KEY first, then by the one before, where there is one."""
    return tuple(hashlib.sha256(key).hexdigest()[:32] for key in keys.keys("installation"))


class BucketOwner:
    """`ids` as `installation_ids` gives them."""

    def __init__(self, client: S3Client, bucket: str, ids: tuple[str, ...]) -> None:
        self._client = client
        self._bucket = bucket
        self._ids = ids
        self._confirmed = False
        self._claiming: asyncio.Task[None] | None = None
        self.keeps_conditions = True
        """Whether the bucket refuses a put under If-None-Match; known once the ownership is confirmed."""

    async def confirm(self) -> None:
        """Claim the bucket, unless that is done. Raises ForeignBucket or BucketUnavailable."""
        if self._confirmed:
            return
        if self._claiming is None or self._claiming.done():
            self._claiming = asyncio.create_task(self._claim())
            self._claiming.add_done_callback(_read_exception)
        # All wait for the same claim: one after another they would wait for a bucket that hangs without an end.
        await asyncio.shield(self._claiming)

    async def touch(self) -> bool:
        """Write without changing anything: proves that the bucket takes objects. False: it ignores If-None-Match."""
        try:
            await self._client.put(self._bucket, OWNER_KEY, self._content(), _ONLY_NEW)
        except KeyTaken:
            return True
        return False

    async def _claim(self) -> None:
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                await self._claim_now()
        except TimeoutError as error:
            raise BucketUnavailable(f"claim {self._bucket}: took too long", passing=True) from error
        self._confirmed = True

    async def _claim_now(self) -> None:
        owners = await self._owners()
        if owners is None:
            # Of two that come here at once the bucket takes one, and the other reads that one's name below.
            await self.touch()
            owners = await self._owners()
        if not set(self._ids) & set(owners or ()):
            raise ForeignBucket(
                f"{self._bucket} belongs to another installation, or to this one under another SECRET_KEY (then set "
                f"SECRET_KEY_PREVIOUS); {OWNER_KEY} in it says so, and can be deleted if the other one is gone for good"
            )
        if owners != list(self._ids):
            await self._client.put(self._bucket, OWNER_KEY, self._content(), _OPTIONS)
        self.keeps_conditions = await self.touch()

    async def _owners(self) -> list[str] | None:
        """None: nobody's yet."""
        try:
            content = orjson.loads(await self._client.get(self._bucket, OWNER_KEY))
            return [str(owner) for owner in content["installations"]]
        except KeyMissing:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return []

    def _content(self) -> bytes:
        return orjson.dumps({"installations": self._ids})


def _read_exception(claiming: asyncio.Task[None]) -> None:
    """So that one which nobody waits for any more does not complain when it is collected."""
    if not claiming.cancelled():
        claiming.exception()
