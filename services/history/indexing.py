"""Keeping the index of the search: done by the worker, a short transaction at a time.

Whoever dies in between leaves a segment whose state says how to go on. Meanwhile its images are read one by one.
"""

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from core.clients.database import Database
from services.history import segments
from services.history.grams import grams_of
from services.history.postings import pack
from services.history.segments import SEGMENT_SLOTS, Segment

# So many images without a slot are read in about a millisecond.
SEAL_AT = 1024
FILL_BATCH = 1000  # rows that one transaction changes, in about 20 ms
POSTINGS_BATCH = 1000
# Segments below it are put together as soon as they make a whole one.
SMALL = SEGMENT_SLOTS // 2


class SearchIndexer:
    """`seal_at`: how many images without a slot make a segment."""

    def __init__(self, database: Database, seal_at: int = SEAL_AT) -> None:
        self._database = database
        self._seal_at = seal_at

    async def tend(self) -> int:
        """Seal what has become many, mend what is worn. Answers how many segments were made."""
        while rows := await self._database.read(partial(segments.unfolded, limit=FILL_BATCH)):
            await self._database.write(partial(segments.set_folded, rows=rows))
        busy = await self._database.read(partial(segments.users_with_work, seal_at=self._seal_at))
        return sum([await self._tend_user(user_id) for user_id in busy])

    async def forget(self, user_id: str) -> None:
        """Remove a user's whole index, and the counts of what they have no more."""
        for segment in await self._segments(user_id):
            await self._dissolve(segment)
        await self._database.write(partial(segments.forget_counts, user_id=user_id))

    async def _tend_user(self, user_id: str) -> int:
        made = 0
        while True:
            for segment in await self._segments(user_id):
                await self._go_on(segment)
            for segment in _worn(await self._segments(user_id)):
                await self._dissolve(segment)
            if not await self._database.read(partial(segments.tail_reaches, user_id=user_id, count=self._seal_at)):
                return made
            await self._database.write(partial(segments.open_segment, user_id=user_id))
            made += 1

    async def _segments(self, user_id: str) -> list[Segment]:
        return await self._database.read(partial(segments.segments_of, user_id=user_id))

    async def _go_on(self, segment: Segment) -> None:
        """From wherever a segment stands to its end."""
        if segment.state == "dissolving":
            await self._dissolve(segment)
        if segment.state == "filling":
            while await self._database.write(partial(segments.fill, segment_id=segment.id, limit=FILL_BATCH)):
                pass
        if segment.state in ("filling", "building"):
            await self._build(segment)

    async def _build(self, segment: Segment) -> None:
        collected: dict[str, array[int]] = defaultdict(partial(array, "H"))
        for slots in _batches(segment):
            texts = await self._database.read(partial(segments.texts, slots=slots))
            await asyncio.to_thread(_collect, collected, texts, segment.slots.start)
        packed = ((gram, pack(slots)) for gram, slots in sorted(collected.items()))
        while some := await asyncio.to_thread(lambda: list(islice(packed, POSTINGS_BATCH))):
            if not await self._database.write(partial(segments.write_postings, segment_id=segment.id, slots=some)):
                return
        await self._database.write(partial(segments.set_ready, segment_id=segment.id))

    async def _dissolve(self, segment: Segment) -> None:
        """Its images are without slots again."""
        await self._database.write(partial(segments.begin_to_dissolve, segment_id=segment.id))
        drop: Callable[..., bool] = partial(segments.drop_postings, segment_id=segment.id, limit=POSTINGS_BATCH)
        while await self._database.write(drop):
            pass
        for slots in _batches(segment):
            await self._database.write(partial(segments.free_slots, slots=slots))
        await self._database.write(partial(segments.remove_segment, segment_id=segment.id))


def _worn(ready: Iterable[Segment]) -> list[Segment]:
    """Segments of which much is gone, and small ones that together make a whole one."""
    worn = [segment for segment in ready if segment.is_worn]
    small = [segment for segment in ready if segment.size < SMALL and segment not in worn]
    return worn + (small if sum(segment.size for segment in small) >= SEGMENT_SLOTS else [])


def _batches(segment: Segment) -> list[range]:
    start = segment.slots.start
    return [range(first, first + FILL_BATCH) for first in range(start, start + SEGMENT_SLOTS, FILL_BATCH)]


def _collect(collected: dict[str, "array[int]"], texts: Iterable[tuple[int, str, str]], first_slot: int) -> None:
    for slot, folded, mode in texts:
        for gram in grams_of(folded, mode):
            collected[gram].append(slot - first_slot)
