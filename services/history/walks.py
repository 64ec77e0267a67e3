"""The hits of a search in order: by time, or by how long the images took.

For the order of time images come in parts: those without a slot as one, and each stretch as one. A part is read in
order, some dozens of candidates at first, and always the part that may have the next image; what nothing that is left
can come before is handed out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from services.history.candidates import CandidateIndex, Candidates
from services.history.search_rows import GREATEST, SMALLEST, Hit, Key, Rows
from services.history.search_statements import Kind
from services.history.segments import SEGMENT_SLOTS
from services.history.stretches import Stretch

# Candidates that are looked at together: few at first, for a page.
FEWEST, MOST = 48, 1200
# Up to so many are read and put in order; of more, the index of durations soon comes to enough.
MOST_SORTED = 4000


@dataclass
class _Tail:
    """What has no slot. `bound`: nothing that is left in it comes before the image with this key."""

    bound: Key


@dataclass
class _Sealed:
    """A stretch. `left`: its candidates that are not read yet, each with whether it is sure; None before the first."""

    bound: Key
    stretch: Stretch
    left: Iterator[tuple[int, bool]] | None = None


def by_time(
    rows: Rows, index: CandidateIndex, kind: Kind, tail: Sequence[Hit] | None, *, ascending: bool
) -> Iterator[Hit]:
    """`tail`: the hits among what has no slot, when they are known."""
    walk = _Walk(rows, index, kind, has_tail=tail is None, ascending=ascending)
    found = list(tail or ())
    many = FEWEST
    while walk.parts:
        found += walk.read(many)
        certain, found = walk.split(found)
        yield from sorted(certain, reverse=not ascending)
        many = min(2 * many, MOST)
    yield from sorted(found, reverse=not ascending)


class _Walk:
    def __init__(self, rows: Rows, index: CandidateIndex, kind: Kind, *, has_tail: bool, ascending: bool) -> None:
        self._rows = rows
        self._index = index
        self._kind: Kind = kind
        self._ascending = ascending
        self.parts: list[_Tail | _Sealed] = [_Tail(SMALLEST if ascending else GREATEST)] if has_tail else []
        self.parts += map(self._part_of, index.stretches)

    def read(self, many: int) -> list[Hit]:
        """Hits among the candidates that come next."""
        self.parts.sort(key=lambda part: part.bound, reverse=not self._ascending)
        first = self.parts[0]
        return self._read_tail(first, many) if isinstance(first, _Tail) else self._read_sealed(many)

    def split(self, found: list[Hit]) -> tuple[list[Hit], list[Hit]]:
        """Those that nothing which is not read yet can come before, and the others."""
        if not self.parts:
            return found, []
        bounds = [part.bound for part in self.parts]
        bound = min(bounds) if self._ascending else max(bounds)
        split: dict[bool, list[Hit]] = {True: [], False: []}
        for hit in found:
            split[hit[:2] <= bound if self._ascending else hit[:2] >= bound].append(hit)
        return split[True], split[False]

    def _part_of(self, stretch: Stretch) -> _Sealed:
        return _Sealed((stretch.oldest_at, "") if self._ascending else (stretch.newest_at + 1, ""), stretch)

    def _read_tail(self, part: _Tail, many: int) -> list[Hit]:
        hits, bound = self._rows.unsealed(part.bound, many, ascending=self._ascending)
        if bound is None:
            self.parts.remove(part)
        else:
            part.bound = bound
        return hits

    def _read_sealed(self, many: int) -> list[Hit]:
        """Of the stretches that come next."""
        slots, unfinished = self._next_slots(many)
        hits = self._rows.sure(slots[True]) + self._rows.checked(slots[False])
        if unfinished is not None:
            # Its slots are in the order of time, so what is left in it comes after those of its images that were read.
            keys = [hit[:2] for hit in hits if hit.slot is not None and unfinished.stretch.has(hit.slot)]
            unfinished.bound = (max if self._ascending else min)([unfinished.bound, *keys])
        return hits

    def _next_slots(self, many: int) -> tuple[dict[bool, list[int]], _Sealed | None]:
        """Candidates, by whether they are sure, and the stretch that they do not take to its end."""
        slots: dict[bool, list[int]] = {True: [], False: []}
        for part in [part for part in self.parts if isinstance(part, _Sealed)]:
            for within, is_sure in islice(self._left(part), many):
                slots[is_sure].append(part.stretch.slot(within))
                many -= 1
            if not many:
                return slots, part
            self.parts.remove(part)
        return slots, None

    def _left(self, part: _Sealed) -> Iterator[tuple[int, bool]]:
        if part.left is None:
            sure, unsure = self._index.of(part.stretch, self._kind)
            both = sure | unsure
            part.left = ((within, within in sure) for within in (both if self._ascending else reversed(both)))
        return part.left


def by_duration(
    rows: Rows, index: CandidateIndex, kind: Kind, tail: Sequence[Hit] | None, *, slowest: bool
) -> Iterator[Hit]:
    """Of those that took equally long the newest first. `tail` as above."""
    found = {stretch: index.of(stretch, kind) for stretch in index.stretches}
    if sum(candidates.number for candidates in found.values()) <= MOST_SORTED:
        hits = list(by_time(rows, index, kind, tail, ascending=False))
        yield from sorted(hits, key=lambda hit: hit.duration, reverse=slowest)
        return
    candidates = {
        segment.id: (place * SEGMENT_SLOTS, of_stretch)
        for stretch, of_stretch in found.items()
        for place, segment in enumerate(stretch.segments)
    }
    after: Hit | None = None
    many = FEWEST
    while some := rows.next_by_duration(after, many, ascending=not slowest):
        for hit, folded in some:
            told = _told(hit, candidates)
            if told or (told is None and rows.is_hit(folded)):
                yield hit
        after = some[-1][0]
        many = min(2 * many, MOST)


def _told(hit: Hit, candidates: Mapping[int, tuple[int, Candidates]]) -> bool | None:
    """Whether grams tell that it is a hit; None when its prompt has to be looked at."""
    if hit.slot is None:
        return None
    segment_id, slot = divmod(hit.slot, SEGMENT_SLOTS)
    start, found = candidates.get(segment_id, (0, None))
    return None if found is None or start + slot in found.unsure else start + slot in found.sure
