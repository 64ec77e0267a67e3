"""What a search reads together: a block of segments, or a segment in none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from core.clock import Milliseconds
from services.history.blocks import blocks_of, is_whole
from services.history.segments import SEGMENT_SLOTS, Segment

# Where its postings are, and whose they are there.
StretchKey = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Its slots count on from one segment to the next, SEGMENT_SLOTS for each, and are in the order of time.

    `is_sealed`: grams tell where its hits are; the images of others are looked at one by one.
    """

    id: int
    is_block: bool
    is_sealed: bool
    segments: Sequence[Segment]

    @property
    def key(self) -> StretchKey:
        return ("blocks" if self.is_block else "segments", self.id)

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def removed(self) -> int:
        return sum(segment.removed for segment in self.segments)

    @property
    def oldest_at(self) -> Milliseconds:
        return self.segments[0].oldest_at

    @property
    def newest_at(self) -> Milliseconds:
        return self.segments[-1].newest_at

    def slot(self, within: int) -> int:
        """As images know it."""
        place, slot = divmod(within, SEGMENT_SLOTS)
        return self.segments[place].slots.start + slot

    def has(self, slot: int) -> bool:
        return slot // SEGMENT_SLOTS in self._segment_ids

    @cached_property
    def _segment_ids(self) -> frozenset[int]:
        return frozenset(segment.id for segment in self.segments)


def stretches_of(segments: Iterable[Segment]) -> list[Stretch]:
    there = list(segments)
    blocks = {block_id: block for block_id, block in blocks_of(there).items() if is_whole(block)}
    alone = [segment for segment in there if segment.block_id not in blocks]
    found = [Stretch(block_id, True, True, block) for block_id, block in blocks.items()]
    return found + [Stretch(segment.id, False, segment.state == "sealed", [segment]) for segment in alone]
