"""Objects in an S3 bucket, or in two: nothing but images may stand in one that everybody can read."""

import asyncio
import contextlib
import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.clients.s3 import S3Client
from core.clients.s3_errors import BucketUnavailable, KeyMissing, KeyTaken
from core.clients.s3_models import PutOptions, S3Object
from core.errors import StorageUnavailable
from services.storage.base import ImageWithRecord, ObjectInfo
from services.storage.errors import MaybeStored, ObjectExists, ObjectNotFound
from services.storage.keys import check_key, check_prefix, holds_image, is_key
from services.storage.owner import OWNER_KEY, BucketOwner

CACHE_CONTROL = "public, max-age=31536000, immutable"
LOCKS = 64


@dataclass(frozen=True)
class Buckets:
    """`others`: the bucket of all that is no image; the same one where nobody but us reads it."""

    images: str
    others: str

    def of(self, key: str) -> tuple[str, ...]:
        """Where a key is written, then where it may be from before there were two."""
        if self.images == self.others or holds_image(key):
            return (self.images,)
        return self.others, self.images


class S3Storage:
    backend = "s3"

    def __init__(self, client: S3Client, buckets: Buckets, owner: BucketOwner) -> None:
        self._client = client
        self._buckets = buckets
        self._owner = owner
        self._locks = tuple(asyncio.Lock() for _ in range(LOCKS))

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        check_key(key)
        await self._owner.confirm()
        await self._client.put(self._buckets.of(key)[0], key, data, _options(key, content_type))

    async def put_file(
        self, key: str, path: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        check_key(key)
        await self._owner.confirm()
        options = _options(key, content_type, metadata=metadata, only_new=True)
        async with self._refusing_a_second(key):
            await self._upload(self._buckets.of(key)[0], key, path, options)

    async def put_image(self, image: ImageWithRecord, *, between: Callable[[], None]) -> None:
        await self.put_file(image.key, image.path, content_type=image.content_type, metadata=image.metadata)
        between()
        try:
            await self.put(image.record_key, image.record, content_type="application/json")
        except StorageUnavailable:
            # The record too: a bucket may have taken it and lost the answer, and a record without bytes must not stay.
            await self._take_back(image.record_key, image.key)
            raise

    async def get(self, key: str) -> bytes:
        check_key(key)
        for bucket in self._buckets.of(key):
            with contextlib.suppress(KeyMissing):
                return await self._client.get(bucket, key)
        raise ObjectNotFound(key)

    async def stat(self, key: str) -> ObjectInfo:
        return _info(await self._head(key))

    async def metadata(self, key: str) -> dict[str, str]:
        # Some servers drop names with an underscore, which the old app wrote.
        return {name.replace("_", "-").lower(): value for name, value in (await self._head(key)).metadata.items()}

    async def stream(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        check_key(key)
        for bucket in self._buckets.of(key):
            with contextlib.suppress(KeyMissing):
                async for piece in self._client.stream(bucket, key, start, length):
                    yield piece
                return
        raise ObjectNotFound(key)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._owner.confirm()
        for bucket in self._buckets.of(key):
            await self._client.delete(bucket, key)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, str]:
        await self._owner.confirm()
        left = dict[str, str]()
        by_bucket = defaultdict[str, list[str]](list)
        for key in keys:
            if not is_key(key):
                left[key] = "not a storage key"
                continue
            for bucket in self._buckets.of(key):
                by_bucket[bucket].append(key)
        for bucket, its_keys in by_bucket.items():
            left |= await self._client.delete_many(bucket, its_keys)
        return left

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        async for found in self._all(prefix):
            # What other programs put there under names that are no keys of ours cannot be asked for either.
            if is_key(found.key) and found.key != OWNER_KEY:
                yield _info(found)

    async def check(self) -> None:
        await self._owner.confirm()
        await self._owner.touch()
        if self._buckets.images != self._buckets.others:
            await self._client.probe(self._buckets.images)

    async def _take_back(self, *keys: str) -> None:
        try:
            for key in keys:
                await self.delete(key)
        except StorageUnavailable as error:
            raise MaybeStored(str(error)) from error

    async def _head(self, key: str) -> S3Object:
        check_key(key)
        for bucket in self._buckets.of(key):
            with contextlib.suppress(KeyMissing):
                return await self._client.head(bucket, key)
        raise ObjectNotFound(key)

    async def _all(self, prefix: str) -> AsyncIterator[S3Object]:
        images = self._client.list(self._buckets.images, prefix)
        if self._buckets.images == self._buckets.others:
            async for found in images:
                yield found
            return
        others = self._client.list(self._buckets.others, prefix)
        async for found in _merged(others, images):
            yield found

    async def _upload(self, bucket: str, key: str, path: Path, options: PutOptions) -> None:
        try:
            await self._client.put_file(bucket, key, path, options)
        except KeyTaken as error:
            if not error.maybe_ours or not await self._is_ours(bucket, key, path):
                raise ObjectExists(key) from error
            await asyncio.to_thread(path.unlink)
        except BucketUnavailable as error:
            if error.maybe_done:
                await self._withdraw(bucket, key, path)
            raise

    async def _withdraw(self, bucket: str, key: str, path: Path) -> None:
        """Take back what a put without an answer may have stored; another's object of this key stays."""
        if await self._is_ours(bucket, key, path):
            try:
                await self._client.delete(bucket, key)
            except BucketUnavailable as error:
                raise MaybeStored(str(error)) from error

    async def _is_ours(self, bucket: str, key: str, path: Path) -> bool:
        """Whether the object has the file's bytes. Raises MaybeStored where the bucket does not tell."""
        try:
            found = await self._client.head(bucket, key)
        except KeyMissing:
            return False
        except BucketUnavailable as error:
            raise MaybeStored(str(error)) from error
        try:
            digest, size = await asyncio.to_thread(_digest, path)
        except FileNotFoundError as error:
            # The put was given up in the very moment in which it came through, and has removed its file.
            raise MaybeStored(f"{bucket}/{key}: its file is gone") from error
        if found.etag.strip('"') == digest:
            return True
        if found.size == size:
            raise MaybeStored(f"{bucket}/{key}: of the same size, under a tag that is no MD5")
        return False

    @contextlib.asynccontextmanager
    async def _refusing_a_second(self, key: str) -> AsyncIterator[None]:
        """For a bucket that ignores If-None-Match: look first, one at a time of this process."""
        if self._owner.keeps_conditions:
            yield
            return
        async with self._locks[hash(key) % LOCKS]:
            with contextlib.suppress(KeyMissing):
                await self._client.head(self._buckets.of(key)[0], key)
                raise ObjectExists(key)
            yield


def _options(
    key: str, content_type: str, *, metadata: Mapping[str, str] | None = None, only_new: bool = False
) -> PutOptions:
    return PutOptions(content_type, CACHE_CONTROL if holds_image(key) else None, metadata, only_new)


def _info(found: S3Object) -> ObjectInfo:
    return ObjectInfo(found.key, found.size, found.modified_at)


async def _merged(first: AsyncIterator[S3Object], second: AsyncIterator[S3Object]) -> AsyncIterator[S3Object]:
    """Two lists as one, in the order of keys; of one key the `first` counts."""
    left, right = await anext(first, None), await anext(second, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.key.encode() <= right.key.encode()):
            assert left is not None
            yield left
            if right is not None and right.key == left.key:
                right = await anext(second, None)
            left = await anext(first, None)
        else:
            yield right
            right = await anext(second, None)


def _digest(path: Path) -> tuple[str, int]:
    """The MD5 of a file, which S3 gives as the tag of an object, and its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest(), file.tell()
