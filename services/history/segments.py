"""The index of the search: segments of a user's images, each with its postings (docs/adr/0011).

A segment has up to SEGMENT_SLOTS slots, numbered from its oldest image to its newest; an image knows its slot. What
has none is read by the search itself, and so is a segment that is not ready: no image waits to be found.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from core.clients.database import metadata, take_turn
from core.clock import Milliseconds
from core.text import fold
from services.history.store import images, shown, shown_counts, unsealed

SEGMENT_SLOTS = 16_384
# What is gone for good leaves its grams behind until it is more than this part of its segment: an eighth.
REMOVED_PART = 8

State = Literal["filling", "collecting", "sealed", "joined", "emptied", "rebuilding", "dissolving"]

segments = Table(
    "search_segments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("removed", Integer, nullable=False),
    Column("oldest_at", BigInteger, nullable=False),
    Column("newest_at", BigInteger, nullable=False),
    Column("newest_id", String, nullable=False),
    Column("block_id", Integer),
    Column("place", Integer),
    sqlite_autoincrement=True,  # the slots of one that is gone are nobody's
)
Index("ix_search_segments_user_id", segments.c.user_id)
postings = Table(
    "search_postings",
    metadata,
    Column("segment_id", Integer, primary_key=True),
    Column("gram", String, primary_key=True),
    Column("slots", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


class Segment(NamedTuple):
    """`removed`: of how many slots the image is gone for good. `block_id`, `place`: where it is joined with others."""

    id: int
    user_id: str
    state: State
    size: int
    removed: int
    oldest_at: Milliseconds
    newest_at: Milliseconds
    newest_id: str
    block_id: int | None
    place: int | None

    @property
    def slots(self) -> range:
        """Those that are taken; there may be up to SEGMENT_SLOTS."""
        first = self.id * SEGMENT_SLOTS
        return range(first, first + self.size)


def are_worn(some: Collection[Segment]) -> bool:
    """Segments that stand by themselves, or are a block."""
    return sum(segment.removed for segment in some) * REMOVED_PART > sum(segment.size for segment in some)


def segments_of(connection: Connection, user_id: str) -> list[Segment]:
    return [Segment(*row) for row in connection.execute(_OF_USER, {"user_id": user_id}).all()]


def users_with_work(connection: Connection, seal_at: int) -> list[str]:
    """Whose images may be many enough to be sealed, or whose segments are not as they should be."""
    seen = func.sum(shown_counts.c.shown)
    many = select(shown_counts.c.user_id).group_by(shown_counts.c.user_id).having(seen >= seal_at)
    under_way = select(segments.c.user_id).where(
        or_(
            segments.c.state.not_in(("sealed", "emptied")),
            and_(segments.c.state == "sealed", segments.c.block_id.is_not(None)),
        )
    )
    removed, size = func.sum(segments.c.removed), func.sum(segments.c.size)
    blocks = (segments.c.user_id, func.coalesce(segments.c.block_id, segments.c.id))
    worn = select(segments.c.user_id).group_by(*blocks).having(removed * REMOVED_PART > size)
    return list(connection.execute(many.union(under_way, worn)).scalars())


def tail_reaches(connection: Connection, user_id: str, count: int) -> bool:
    """Whether so many images of a user have no slot yet."""
    some = select(images.c.id).where(_tail(user_id)).limit(count).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one() == count


def unfolded(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Ids and prompts of some images that a process of an earlier version has written."""
    rows = connection.execute(select(images.c.id, images.c.prompt).where(images.c.folded.is_(None)).limit(limit))
    return [(row.id, row.prompt) for row in rows]


def set_folded(connection: Connection, rows: Sequence[tuple[str, str]]) -> None:
    connection.execute(_FOLD, [{"image": image_id, "text": fold(prompt)} for image_id, prompt in rows])


def open_segment(connection: Connection, user_id: str) -> None:
    """A segment to be filled, unless there is one."""
    take_turn(connection, f"search:{user_id}")
    if _read(connection, and_(segments.c.user_id == user_id, segments.c.state == "filling")):
        return
    empty = {"state": "filling", "size": 0, "removed": 0, "oldest_at": 0, "newest_at": 0, "newest_id": ""}
    connection.execute(insert(segments), {"user_id": user_id, **empty})


def fill(connection: Connection, segment_id: int, limit: int) -> bool:
    """Give slots to at most `limit` images that come next by time. False when it is full, or there are no more.

    What is older and came in meanwhile is left for another segment: a segment's slots are in order.
    """
    segment = _locked(connection, segment_id, "filling")
    if segment is None:
        return False
    limit = min(limit, SEGMENT_SLOTS - segment.size)
    next_ones = select(images.c.id, images.c.created_at).where(_tail(segment.user_id))
    if segment.size:
        next_ones = next_ones.where(tuple_(images.c.created_at, images.c.id) > (segment.newest_at, segment.newest_id))
    rows = connection.execute(next_ones.order_by(images.c.created_at, images.c.id).limit(limit).with_for_update()).all()
    first = segment.slots.start + segment.size
    if rows:
        given = [{"image": row.id, "slot": slot} for slot, row in enumerate(rows, first)]
        connection.execute(_GIVE_SLOT, given)
        newest = {"newest_at": rows[-1].created_at, "newest_id": rows[-1].id, "size": segment.size + len(rows)}
        oldest = {} if segment.size else {"oldest_at": rows[0].created_at}
        _change(connection, segment_id, {**newest, **oldest})
    if len(rows) == limit and segment.size + len(rows) < SEGMENT_SLOTS:
        return True
    _change(connection, segment_id, {"state": "collecting"})
    return False


def texts(connection: Connection, slots: range) -> list[tuple[int, str, str]]:
    """Slot, folded prompt and mode of each image there, ascending; those in the trash too: they may come back."""
    there = and_(images.c.search_slot >= slots.start, images.c.search_slot < slots.stop)
    columns = (images.c.search_slot, images.c.folded, images.c.prompt, images.c.mode)
    rows = connection.execute(select(*columns).where(there).order_by(images.c.search_slot))
    return [(slot, fold(prompt) if folded is None else folded, mode) for slot, folded, prompt, mode in rows]


def drop_postings(connection: Connection, segment_id: int, state: State, limit: int) -> bool:
    """At most `limit` of a segment's that is in this state. False when there were none, or its state is another."""
    if _locked(connection, segment_id, state) is None:
        return False
    some = select(postings.c.gram).where(postings.c.segment_id == segment_id).limit(limit)
    gone = delete(postings).where(postings.c.segment_id == segment_id, postings.c.gram.in_(some))
    return connection.execute(gone).rowcount > 0


def write_postings(connection: Connection, segment_id: int, slots: Sequence[tuple[str, bytes]]) -> bool:
    """False when nothing is collected for the segment any more. What another worker has written for it stays."""
    if _locked(connection, segment_id, "collecting") is None:
        return False
    known = set(
        connection.execute(
            select(postings.c.gram).where(
                postings.c.segment_id == segment_id, postings.c.gram.in_([gram for gram, _ in slots])
            )
        ).scalars()
    )
    rows = [{"segment_id": segment_id, "gram": gram, "slots": bits} for gram, bits in slots if gram not in known]
    if rows:
        connection.execute(insert(postings), rows)
    return True


def seal(connection: Connection, segment_id: int) -> None:
    """Unless it is being dissolved meanwhile."""
    if _locked(connection, segment_id, "collecting") is not None:
        _change(connection, segment_id, {"state": "sealed"})


def begin_to_rebuild(connection: Connection, segment_id: int, state: str) -> None:
    """From a state on in which it is to be found."""
    if _locked(connection, segment_id, state) is not None:
        _change(connection, segment_id, {"state": "rebuilding"})


def collect_anew(connection: Connection, segment_id: int) -> None:
    """Once no postings are left."""
    if _locked(connection, segment_id, "rebuilding") is not None:
        _change(connection, segment_id, {"state": "collecting"})


def begin_to_dissolve(connection: Connection, segment: Segment) -> int | None:
    """From now on nothing is written for it any more, nor for the block that it is in by now, which is answered."""
    take_turn(connection, f"search:{segment.user_id}")
    block_id = connection.execute(select(segments.c.block_id).where(segments.c.id == segment.id)).scalar()
    which = segments.c.id == segment.id if block_id is None else segments.c.block_id == block_id
    # Locked in the order in which whoever removes images comes to them.
    connection.execute(select(segments.c.id).where(which).order_by(segments.c.id).with_for_update())
    connection.execute(update(segments).where(which).values(state="dissolving"))
    return block_id


def free_slots(connection: Connection, slots: range) -> None:
    """Their images are among those without a slot again."""
    there = and_(images.c.search_slot >= slots.start, images.c.search_slot < slots.stop)
    connection.execute(update(images).where(there).values(search_slot=None))


def is_in_state(connection: Connection, segment_id: int, state: State) -> bool:
    """And stays so until the transaction ends."""
    return _locked(connection, segment_id, state) is not None


def remove_segment(connection: Connection, segment_id: int) -> None:
    connection.execute(delete(segments).where(segments.c.id == segment_id))


def forget_counts(connection: Connection, user_id: str) -> None:
    """Where nothing is counted."""
    connection.execute(delete(shown_counts).where(shown_counts.c.user_id == user_id, shown_counts.c.shown == 0))


def note_removed(connection: Connection, slots: Sequence[int]) -> None:
    """The images of these slots are gone for good."""
    for segment_id in sorted({slot // SEGMENT_SLOTS for slot in slots}):
        count = sum(slot // SEGMENT_SLOTS == segment_id for slot in slots)
        gone = update(segments).where(segments.c.id == segment_id)
        connection.execute(gone.values(removed=segments.c.removed + count))


_OF_USER = select(segments).where(segments.c.user_id == bindparam("user_id"))
_FOLD = update(images).where(images.c.id == bindparam("image")).values(folded=bindparam("text"))
_GIVE_SLOT = update(images).where(images.c.id == bindparam("image")).values(search_slot=bindparam("slot"))


def _tail(user_id: str) -> ColumnElement[bool]:
    return and_(images.c.user_id == user_id, shown, unsealed)


def _read(connection: Connection, which: ColumnElement[bool]) -> list[Segment]:
    return [Segment(*row) for row in connection.execute(select(segments).where(which)).all()]


def _locked(connection: Connection, segment_id: int, state: str) -> Segment | None:
    """Workers of several hosts may be at the same segment; each step looks at it anew."""
    there = and_(segments.c.id == segment_id, segments.c.state == state)
    row = connection.execute(select(segments).where(there).with_for_update()).one_or_none()
    return None if row is None else Segment(*row)


def _change(connection: Connection, segment_id: int, values: Mapping[str, Any]) -> None:
    connection.execute(update(segments).where(segments.c.id == segment_id).values(**values))
