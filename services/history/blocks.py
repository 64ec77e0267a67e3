"""Blocks of the search's index: the postings of segments that follow each other in time, joined, so that a search among
a million images reads a dozen rows for each gram (docs/adr/0011).

An image in a block keeps its slot. In the block's postings those of the segment at place 2 begin at 2 × SEGMENT_SLOTS.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from core.clients.database import metadata, take_turn
from services.history.postings import join
from services.history.segments import SEGMENT_SLOTS, Segment, are_worn, is_in_state, postings, segments

BLOCK_SEGMENTS = 8

block_postings = Table(
    "search_block_postings",
    metadata,
    # Of its first segment. Postings go with it: a version before removes segments and knows no blocks.
    Column("block_id", Integer, ForeignKey(segments.c.id, ondelete="CASCADE"), primary_key=True),
    Column("gram", String, primary_key=True),
    Column("slots", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


class ToJoin(NamedTuple):
    """By gram: packed slots of segments, each with where these begin in the block. `last`: the last gram for which that
    is all; None when it is for each.
    """

    by_gram: Mapping[str, Sequence[tuple[int, bytes]]]
    last: str | None


def to_be_joined(some: Iterable[Segment], smallest: int) -> list[Segment]:
    """Segments of at least this size that make a block: each later than the one before it, not only by its ids. Empty
    when there are too few.
    """
    run: list[Segment] = []
    for segment in sorted(some, key=lambda segment: segment.oldest_at):
        if segment.state != "sealed" or segment.block_id is not None or segment.size < smallest or are_worn([segment]):
            continue
        if run and segment.oldest_at <= run[-1].newest_at:
            run = []
        run.append(segment)
        if len(run) == BLOCK_SEGMENTS:
            return run
    return []


def blocks_of(some: Iterable[Segment]) -> dict[int, list[Segment]]:
    """By their ids, in the order of their places."""
    found: dict[int, list[Segment]] = defaultdict(list)
    for segment in sorted(some, key=lambda segment: segment.place or 0):
        if segment.block_id is not None:
            found[segment.block_id].append(segment)
    return found


def begin_to_join(connection: Connection, run: Sequence[Segment]) -> bool:
    """They are a block from now on, whose id is that of its first one. False when one of them is something else now."""
    take_turn(connection, f"search:{run[0].user_id}")
    ids = [segment.id for segment in run]
    unjoined = segments.c.id.in_(ids) & (segments.c.state == "sealed") & segments.c.block_id.is_(None)
    locked = select(segments.c.id).where(unjoined).order_by(segments.c.id).with_for_update()
    if len(connection.execute(locked).all()) < len(ids):
        return False
    places = [{"segment": segment_id, "place": place, "block": ids[0]} for place, segment_id in enumerate(ids)]
    connection.execute(_GIVE_PLACE, places)
    return True


def next_to_join(connection: Connection, segment_ids: Sequence[int], after: str, limit: int) -> ToJoin:
    """Of grams that come after this one; at most `limit` of each segment."""
    by_gram: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    ends = []
    for place, segment_id in enumerate(segment_ids):
        rows = connection.execute(_NEXT, {"segment": segment_id, "after": after, "limit": limit}).all()
        if len(rows) == limit:
            ends.append(rows[-1].gram)
        for gram, slots in rows:
            by_gram[gram].append((place * SEGMENT_SLOTS, slots))
    return ToJoin(by_gram, min(ends, default=None))


def join_some(found: ToJoin) -> list[tuple[str, bytes]]:
    grams = sorted(gram for gram in found.by_gram if found.last is None or gram <= found.last)
    return [(gram, join(found.by_gram[gram])) for gram in grams]


def write_joined(connection: Connection, block_id: int, rows: Sequence[tuple[str, bytes]]) -> bool:
    """False when the segments are not being joined any more. What another worker has written stays."""
    if not _is_being_joined(connection, block_id):
        return False
    there = block_postings.c.gram.in_([gram for gram, _ in rows])
    known = connection.execute(select(block_postings.c.gram).where(block_postings.c.block_id == block_id, there))
    grams = set(known.scalars())
    new = [{"block_id": block_id, "gram": gram, "slots": slots} for gram, slots in rows if gram not in grams]
    if new:
        connection.execute(insert(block_postings), new)
    return True


def end_joining(connection: Connection, block_id: int) -> None:
    """From now on the block is read and not its segments."""
    if _is_being_joined(connection, block_id):
        connection.execute(update(segments).where(segments.c.block_id == block_id).values(state="joined"))


def note_emptied(connection: Connection, segment_id: int) -> None:
    """The segment's own postings are gone."""
    emptied = update(segments).where(segments.c.id == segment_id, segments.c.state == "joined")
    connection.execute(emptied.values(state="emptied"))


def drop_block_postings(connection: Connection, block_id: int, segment_id: int, limit: int) -> bool:
    """At most `limit` of those of the block of a segment that is being dissolved. False when there were none, or it is
    not.
    """
    if not is_in_state(connection, segment_id, "dissolving"):
        return False
    of_block = block_postings.c.block_id == block_id
    some = select(block_postings.c.gram).where(of_block).limit(limit)
    return connection.execute(delete(block_postings).where(of_block, block_postings.c.gram.in_(some))).rowcount > 0


def is_whole(block: Collection[Segment]) -> bool:
    """Is it to be read? It is not while it is joined or dissolved."""
    return len(block) == BLOCK_SEGMENTS and all(segment.state in ("joined", "emptied") for segment in block)


_GIVE_PLACE = (
    update(segments)
    .where(segments.c.id == bindparam("segment"))
    .values(block_id=bindparam("block"), place=bindparam("place"))
)
_NEXT = (
    select(postings.c.gram, postings.c.slots)
    .where(postings.c.segment_id == bindparam("segment"), postings.c.gram > bindparam("after"))
    .order_by(postings.c.gram)
    .limit(bindparam("limit"))
)


def _is_being_joined(connection: Connection, block_id: int) -> bool:
    of_block = select(segments.c.state).where(segments.c.block_id == block_id)
    states = connection.execute(of_block.order_by(segments.c.id).with_for_update()).scalars()
    return list(states) == ["sealed"] * BLOCK_SEGMENTS
