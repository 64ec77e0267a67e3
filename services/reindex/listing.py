"""Storage as it is listed: object after object, taken together by what they belong to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from services.reindex.models import Entry, Found
from services.storage.base import ObjectInfo
from services.storage.keys import holds_image
from services.storage.names import record_key, stem_of

Given = TypeVar("Given")

READS_AT_ONCE = 16


async def by_stem(objects: AsyncIterator[ObjectInfo]) -> AsyncIterator[Found]:
    """`objects` in the order of their keys, in which an image and its record follow each other."""
    together: list[ObjectInfo] = []
    async for info in objects:
        if together and stem_of(together[0].key) != stem_of(info.key):
            yield _found(together)
            together = []
        together.append(info)
    if together:
        yield _found(together)


async def batches(found: AsyncIterator[Found], size: int) -> AsyncIterator[list[Found]]:
    batch: list[Found] = []
    async for one in found:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def side_by_side(read: Callable[[Given], Awaitable[Entry | None]], given: Sequence[Given]) -> list[Entry]:
    """What is read of all that is given, some of it at once."""
    entries: list[Entry] = []
    for start in range(0, len(given), READS_AT_ONCE):
        found = await asyncio.gather(*(read(one) for one in given[start : start + READS_AT_ONCE]))
        entries += [entry for entry in found if entry is not None]
    return entries


def _found(objects: list[ObjectInfo]) -> Found:
    stem = stem_of(objects[0].key)
    images = tuple(info for info in objects if holds_image(info.key))
    record = next((info for info in objects if info.key == record_key(stem)), None)
    others = tuple(info for info in objects if info is not record and info not in images)
    return Found(stem, images, record, others)
