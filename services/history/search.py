"""Searching a user's images: those whose folded prompt has the text in it, and those that have all its words.

A search hands out its hits in order and reads no further than they are asked for; how many there are is counted apart
from that, since grams mostly tell (docs/adr/0011).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from services.history.candidates import AT_FIRST, CandidateIndex, Candidates
from services.history.models import Wanted
from services.history.search_rows import Hit, Rows
from services.history.search_statements import Kind, trashed_slots
from services.history.segments import SEGMENT_SLOTS, segments_of
from services.history.stretches import Stretch, stretches_of
from services.history.walks import MOST, by_duration, by_time

if TYPE_CHECKING:
    from pyroaring import BitMap

FEWEST_COUNTED = 50


class Search:
    """Within one transaction."""

    def __init__(self, connection: Connection, user_id: str, wanted: Wanted) -> None:
        self._connection = connection
        self._user_id = user_id
        self._wanted = wanted
        self._lacking = 0  # of those that are counted
        self._both: Kind = "any" if wanted.sought.words else "exact"
        there = [] if wanted.among_few else filter(self._may_have_some, stretches_of(segments_of(connection, user_id)))
        self._index = CandidateIndex(connection, wanted, sorted(there, key=self._place, reverse=not wanted.ascending))
        # Read at once where it takes more than the database to tell hits, and their kinds.
        self._tail = self._rows("any").small_tail() if wanted.sought.words else None

    def hits(self) -> Iterator[Hit]:
        """In order; with groups wanted, of each its first one alone."""
        if not self._wanted.grouped:
            yield from self._each()
            return
        known: set[str] = set()
        for hit in self._each():
            if hit.group not in known:
                known.add(hit.group)
                yield hit

    def count(self, most: int) -> int:
        """All hits, groups aside, or `most` when there are more."""
        self._lacking = most
        for part in self._counts():
            self._lacking -= part
            if self._lacking <= 0:
                return most
        return most - self._lacking

    def _counts(self) -> Iterator[int]:
        """Of one part after the other, first of the stretches that are read together at first."""
        rows = self._rows(self._both)
        yield rows.count_unsealed(self._lacking) if self._tail is None else len(self._tail["any"])
        unsure_rows = self._rows(self._index.unsure_kind(self._both))
        whole = self._whole() if self._index.may_be_sure(self._both) else []
        for some in (self._index.stretches[:AT_FIRST], self._index.stretches[AT_FIRST:]):
            if self._index.may_be_sure(self._both):
                yield from (len(self._found(stretch).sure) for stretch in some if stretch in whole)
                others = [stretch for stretch in some if stretch not in whole]
                yield from map(rows.count_sure, self._slots(others, lambda stretch: self._found(stretch).sure))
            for is_sealed, these in ((True, unsure_rows), (False, rows)):
                of = (stretch for stretch in some if stretch.is_sealed == is_sealed)
                yield from map(these.count_checked, self._slots(of, lambda stretch: self._found(stretch).unsure))

    def _whole(self) -> list[Stretch]:
        """Stretches of which each slot has an image that the filter lets through, were it not for its mode."""
        trashed = trashed_slots(self._connection, self._user_id)
        if trashed is None:
            return []
        touched = {slot // SEGMENT_SLOTS for slot in trashed}
        return [
            stretch
            for stretch in self._index.stretches
            if not stretch.removed
            and touched.isdisjoint(segment.id for segment in stretch.segments)
            and self._fits_whole(stretch)
        ]

    def _fits_whole(self, stretch: Stretch) -> bool:
        where = self._wanted.where
        is_late_enough = where.date_from is None or stretch.oldest_at >= where.date_from
        return is_late_enough and (where.date_to is None or stretch.newest_at < where.date_to)

    def _found(self, stretch: Stretch) -> Candidates:
        return self._index.of(stretch, self._both)

    def _each(self) -> Iterator[Hit]:
        if self._wanted.by_duration:
            yield from by_duration(*self._ground(self._both), slowest=self._wanted.sort == "slowest")
        elif self._wanted.sort is not None or self._both == "exact":
            yield from by_time(*self._ground(self._both), ascending=self._wanted.ascending)
        else:
            for kind in ("exact", "words"):
                yield from by_time(*self._ground(kind), ascending=False)

    def _ground(self, kind: Kind) -> tuple[Rows, CandidateIndex, Kind, Sequence[Hit] | None]:
        return self._rows(kind), self._index, kind, None if self._tail is None else self._tail[kind]

    def _rows(self, kind: Kind) -> Rows:
        return Rows(self._connection, self._user_id, self._wanted, kind)

    def _slots(self, of: Iterable[Stretch], which: Callable[[Stretch], "BitMap"]) -> Iterator[list[int]]:
        """Some at a time: what is lacking and a tenth more, for those that are no hits; twice as many each time."""
        slots = (stretch.slot(within) for stretch in of for within in reversed(which(stretch)))
        many = 0
        while some := list(islice(slots, many := min(MOST, max(2 * many, self._lacking * 11 // 10 + FEWEST_COUNTED)))):
            yield some

    def _may_have_some(self, stretch: Stretch) -> bool:
        where = self._wanted.where
        too_old = where.date_from is not None and stretch.newest_at < where.date_from
        too_new = where.date_to is not None and stretch.oldest_at >= where.date_to
        return not (too_old or too_new)

    def _place(self, stretch: Stretch) -> int:
        return stretch.oldest_at if self._wanted.ascending else stretch.newest_at
