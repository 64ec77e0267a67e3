"""Keeping the index of the search: done by the worker, a short transaction at a time.

Whoever dies in between leaves a segment whose state says how to go on. Until it is sealed its images are read one by
one.
"""

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from core.clients.database import Database
from services.history import blocks, segments
from services.history.grams import PASSES, grams_of
from services.history.postings import pack
from services.history.segments import SEGMENT_SLOTS, Segment, are_worn

# So many images without a slot are read in about a millisecond.
SEAL_AT = 1024
FILL_BATCH = 1000  # rows that one transaction changes, in about 20 ms
POSTINGS_BATCH = 1000
# Held in memory while they are collected: some 250 bytes for each gram, and 4 for each slot in which one stands.
MOST_GRAMS_HELD, MOST_SLOTS_HELD = 500_000, 10_000_000
HASHES = 2**16  # of which shares of the grams are made
# Segments below it are put together as soon as they make a whole one.
SMALL = SEGMENT_SLOTS // 2


class Collected:
    """The grams of some texts with the slots that each stands in: those of these lengths, and of them one of so many
    equal shares.
    """

    def __init__(self, lengths: Collection[int], share: int, shares: int, first_slot: int) -> None:
        self._lengths = lengths
        self._share = share
        self._shares = shares
        self._first_slot = first_slot
        self._slots: dict[str, array[int]] = defaultdict(partial(array, "I"))
        self._number = 0

    def add(self, texts: Iterable[tuple[int, str, str]]) -> bool:
        """False when that is too much to be held."""
        for slot, folded, mode in texts:
            grams: Collection[str] = grams_of(folded, mode, self._lengths)
            if self._shares > 1:
                grams = [gram for gram in grams if hash(gram) % HASHES * self._shares // HASHES == self._share]
            for gram in grams:
                self._slots[gram].append(slot - self._first_slot)
            self._number += len(grams)
            if len(self._slots) > MOST_GRAMS_HELD or self._number > MOST_SLOTS_HELD:
                return False
        return True

    def packed(self) -> Iterator[tuple[str, bytes]]:
        for gram, slots in sorted(self._slots.items()):
            yield gram, pack(slots)


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
            await self._join(user_id)
            if not await self._database.read(partial(segments.tail_reaches, user_id=user_id, count=self._seal_at)):
                return made
            await self._database.write(partial(segments.open_segment, user_id=user_id))
            made += 1

    async def _segments(self, user_id: str) -> list[Segment]:
        return await self._database.read(partial(segments.segments_of, user_id=user_id))

    async def _go_on(self, segment: Segment) -> None:
        """From wherever a segment stands to its end."""
        match segment.state:
            case "dissolving":
                await self._dissolve(segment)
            case "filling":
                while await self._database.write(partial(segments.fill, segment_id=segment.id, limit=FILL_BATCH)):
                    pass
                await self._collect(segment)
            case "collecting":
                await self._collect(segment)
            case "joined":
                await self._drop_postings(segment, "joined")
                await self._database.write(partial(blocks.note_emptied, segment_id=segment.id))
            case "rebuilding" | "ready" | "building":  # the last two are of a version before
                await self._rebuild(segment)
            case _:
                pass

    async def _collect(self, segment: Segment) -> None:
        for lengths in PASSES:
            share, shares = 0, 1
            while share < shares:
                collected = Collected(lengths, share, shares, segment.slots.start)
                if not await self._read_texts(segment, collected):
                    share, shares = 2 * share, 2 * shares
                elif await self._write_postings(segment, collected):
                    share += 1
                else:
                    return
        await self._database.write(partial(segments.seal, segment_id=segment.id))

    async def _read_texts(self, segment: Segment, collected: Collected) -> bool:
        """False when there is too much to be collected at once."""
        for slots in _batches(segment):
            texts = await self._database.read(partial(segments.texts, slots=slots))
            if not await asyncio.to_thread(collected.add, texts):
                return False
        return True

    async def _write_postings(self, segment: Segment, collected: Collected) -> bool:
        """False when nothing is collected for it any more."""
        packed = collected.packed()
        while some := await asyncio.to_thread(lambda: list(islice(packed, POSTINGS_BATCH))):
            if not await self._database.write(partial(segments.write_postings, segment_id=segment.id, slots=some)):
                return False
        return True

    async def _join(self, user_id: str) -> None:
        """Go on with what is being joined, and begin with what may be."""
        begun = blocks.blocks_of(await self._segments(user_id)).values()
        for block in begun:
            if all(segment.state == "sealed" for segment in block):
                await self._join_block(block)
        while run := blocks.to_be_joined(await self._segments(user_id), SMALL):
            if not await self._database.write(partial(blocks.begin_to_join, run=run)):
                return
            await self._join_block(run)

    async def _join_block(self, block: Sequence[Segment]) -> None:
        ids = [segment.id for segment in block]
        after: str | None = ""
        while after is not None:
            found = await self._database.read(
                partial(blocks.next_to_join, segment_ids=ids, after=after, limit=POSTINGS_BATCH)
            )
            rows, after = await asyncio.to_thread(blocks.join_some, found), found.last
            for start in range(0, len(rows), POSTINGS_BATCH):
                some = rows[start : start + POSTINGS_BATCH]
                if not await self._database.write(partial(blocks.write_joined, block_id=ids[0], rows=some)):
                    return
        await self._database.write(partial(blocks.end_joining, block_id=ids[0]))
        for segment in block:
            await self._go_on(segment._replace(state="joined"))

    async def _rebuild(self, segment: Segment) -> None:
        """Its images keep their slots."""
        await self._database.write(partial(segments.begin_to_rebuild, segment_id=segment.id, state=segment.state))
        await self._drop_postings(segment, "rebuilding")
        await self._database.write(partial(segments.collect_anew, segment_id=segment.id))
        await self._collect(segment)

    async def _dissolve(self, segment: Segment) -> None:
        """Its images are without slots again."""
        block_id = await self._database.write(partial(segments.begin_to_dissolve, segment=segment))
        await self._drop_postings(segment, "dissolving")
        if block_id is not None:
            drop: Callable[..., bool] = partial(
                blocks.drop_block_postings, block_id=block_id, segment_id=segment.id, limit=POSTINGS_BATCH
            )
            while await self._database.write(drop):
                pass
        for slots in _batches(segment):
            await self._database.write(partial(segments.free_slots, slots=slots))
        await self._database.write(partial(segments.remove_segment, segment_id=segment.id))

    async def _drop_postings(self, segment: Segment, state: segments.State) -> None:
        drop: Callable[..., bool] = partial(
            segments.drop_postings, segment_id=segment.id, state=state, limit=POSTINGS_BATCH
        )
        while await self._database.write(drop):
            pass


def _worn(some: Sequence[Segment]) -> list[Segment]:
    """Those of which much is gone, by themselves or with their block, those of a block that lacks one, and small ones
    that together make a whole one.
    """
    joined = blocks.blocks_of(some)
    alone = [segment for segment in some if segment.block_id is None]
    broken = [block for block in joined.values() if are_worn(block) or len(block) < blocks.BLOCK_SEGMENTS]
    worn = [segment for block in broken for segment in block]
    worn += [segment for segment in alone if are_worn([segment])]
    small = [segment for segment in alone if segment.size < SMALL and segment not in worn]
    return worn + (small if sum(segment.size for segment in small) >= SEGMENT_SLOTS else [])


def _batches(segment: Segment) -> list[range]:
    start = segment.slots.start
    return [range(first, first + FILL_BATCH) for first in range(start, start + SEGMENT_SLOTS, FILL_BATCH)]
