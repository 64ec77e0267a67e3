"""Pages far down a long list. A database would walk through all that is before them; of a user's segments it is known
how many images each has, and whole segments are skipped.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from core.clock import Milliseconds
from services.history.models import Sort
from services.history.search_statements import trashed_slots
from services.history.segments import SEGMENT_SLOTS, Segment, segments_of
from services.history.store import images, shown, unsealed

FAR = 20_000  # an offset from which on it pays
# Their slots are all given, and none is taken back.
_SETTLED = ("collecting", "sealed", "joined", "emptied", "rebuilding")


class Skipped(NamedTuple):
    """So many images come first in the list: all up to one made at `bound`, and none that is made later in it."""

    number: int
    bound: Milliseconds


def skip(connection: Connection, user_id: str, sort: Sort, offset: int) -> Skipped | None:
    """As many as segments tell, and not more than `offset`. `sort`: by time. None when they tell of none, or not
    exactly.
    """
    there = segments_of(connection, user_id)
    trashed = trashed_slots(connection, user_id)
    if trashed is None or any(segment.state not in _SETTLED for segment in there):
        return None
    hidden = Counter(slot // SEGMENT_SLOTS for slot in trashed)
    count, passed = 0, []
    for some in _apart(there, sort):
        count += sum(segment.size - segment.removed - hidden[segment.id] for segment in some)
        if count > offset:
            break
        passed.append((count, _last(some, sort)))
    for sealed, bound in reversed(passed):
        others = connection.execute(_UNSEALED[sort], {"user_id": user_id, "bound": bound}).scalar_one()
        if sealed + others <= offset:
            return Skipped(sealed + others, bound)
    return None


def _apart(there: list[Segment], sort: Sort) -> Iterator[list[Segment]]:
    """In the order of the list; those whose times overlap or touch together."""
    some: list[Segment] = []
    ordered = sorted(there, key=lambda segment: segment.oldest_at if sort == "oldest" else -segment.newest_at)
    for segment in ordered:
        if some and (
            segment.oldest_at > _last(some, sort) if sort == "oldest" else segment.newest_at < _last(some, sort)
        ):
            yield some
            some = []
        some.append(segment)
    if some:
        yield some


def _last(some: list[Segment], sort: Sort) -> Milliseconds:
    if sort == "oldest":
        return max(segment.newest_at for segment in some)
    return min(segment.oldest_at for segment in some)


_COUNT = select(func.count()).select_from(images).where(images.c.user_id == bindparam("user_id"), shown, unsealed)
_UNSEALED = {
    "newest": _COUNT.where(images.c.created_at >= bindparam("bound")),
    "oldest": _COUNT.where(images.c.created_at <= bindparam("bound")),
}
