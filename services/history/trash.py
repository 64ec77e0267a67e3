"""What is on its way out: the trash, what is being removed for good, histories that are being cleared."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from services.history.segments import note_removed
from services.history.store import PURGING, hidden, images, remains, shown

Scope = Literal["trash", "final", "everything"]

DOOMED = (images.c.id, images.c.folder_id, images.c.key, images.c.size)
"""The columns of what is taken for removal."""

clearances = Table(
    "clearances",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("requested_at", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Doomed:
    """What has to be known of an image to remove it; `size` of its bytes."""

    id: str
    folder_id: str
    key: str
    size: int


@dataclass(frozen=True)
class Clearance:
    """A user's wish to be rid of all images, kept until each of their rows says so.

    `scope` trash: what is listed goes into the trash; final: that and what lies in the trash goes for good; everything:
    what was never listed too, as when an account is deleted. What is made after `requested_at` is not meant.
    """

    id: str
    user_id: str
    scope: Scope
    requested_at: Milliseconds


def move(connection: Connection, user_id: str, image_ids: Collection[str], deleted_at: Milliseconds) -> set[str]:
    """Move listed images into the trash. Answers the ids of those that were there to be moved."""
    here = and_(_listed(user_id, image_ids), images.c.deleted_at.is_(None))
    moved = update(images).where(here).values(deleted_at=deleted_at).returning(images.c.id)
    return set(connection.execute(moved).scalars())


def put_back(connection: Connection, user_id: str, image_id: str) -> bool:
    """Out of the trash. False when there is no such image in it."""
    there = and_(_listed(user_id, [image_id]), images.c.deleted_at > PURGING)
    return connection.execute(update(images).where(there).values(deleted_at=None)).rowcount > 0


def take(connection: Connection, user_id: str, image_ids: Collection[str]) -> list[Doomed]:
    """Take listed images, in the trash or not, for removal: nothing can bring them back from now on."""
    return mark(connection, _listed(user_id, image_ids), len(image_ids), PURGING)


def taken_of(connection: Connection, user_id: str, limit: int) -> list[Doomed]:
    """Some of what was taken of a user and is not removed yet."""
    which = and_(images.c.user_id == user_id, hidden, images.c.deleted_at == PURGING)
    return doomed_of(connection.execute(select(*DOOMED).where(which).limit(limit)))


def taken(connection: Connection, after: str, limit: int) -> list[Doomed]:
    """What was taken of anybody and is not removed yet, in the order of ids, from behind `after` on."""
    which = and_(images.c.deleted_at == PURGING, images.c.id > after)
    return doomed_of(connection.execute(select(*DOOMED).where(which).order_by(images.c.id).limit(limit)))


def remove_rows(connection: Connection, image_ids: Collection[str]) -> Sequence[int]:
    """Answers the sizes of those that were there."""
    removing = delete(images).where(images.c.id.in_(image_ids)).returning(images.c.size, images.c.search_slot)
    gone = connection.execute(removing).all()
    note_removed(connection, [slot for _, slot in gone if slot is not None])
    return [size for size, _ in gone]


def note_clearance(connection: Connection, clearance: Clearance) -> int:
    """Write the wish down. Answers how many images it means; when none, nothing is written."""
    meant = sum(
        connection.execute(select(func.count()).select_from(images).where(part)).scalar_one()
        for part in _parts(clearance)
    )
    if meant:
        connection.execute(insert(clearances), asdict(clearance))
    return meant


def noted_clearances(connection: Connection, limit: int) -> list[Clearance]:
    rows = connection.execute(select(clearances).order_by(clearances.c.requested_at).limit(limit))
    return [Clearance(**row._mapping) for row in rows]


def clear_some(connection: Connection, clearance: Clearance, limit: int) -> bool:
    """Mark at most `limit` of the images that are meant. False when none is left; then the wish is done with."""
    still_noted = select(clearances.c.id).where(clearances.c.id == clearance.id)
    if connection.execute(still_noted).one_or_none() is None:
        return False  # fulfilled by another process meanwhile; what its owner has brought back since stays
    deleted_at = clearance.requested_at if clearance.scope == "trash" else PURGING
    left = limit
    for part in _parts(clearance):
        left -= len(mark(connection, part, left, deleted_at))
        if left <= 0:
            return True
    connection.execute(delete(clearances).where(clearances.c.id == clearance.id))
    return False


def mark(
    connection: Connection,
    which: ColumnElement[bool],
    limit: int,
    deleted_at: Milliseconds,
    order: Sequence[ColumnElement[Any]] = (),
) -> list[Doomed]:
    """Set `deleted_at` of at most `limit` images, the first ones by `order`. Fewer only where there are no more.

    With PostgreSQL each is locked and looked at again before it counts: one that was put back, or taken, at the same
    moment is left alone, and another has its place.
    """
    chosen = select(images.c.id).where(which).order_by(*order).limit(limit).with_for_update().cte("chosen")
    marking = update(images).where(images.c.id.in_(select(chosen.c.id))).values(deleted_at=deleted_at)
    # By what comes back: SQLite's driver tells no number of rows of a statement that begins with WITH.
    return doomed_of(connection.execute(marking.returning(*DOOMED)))


def doomed_of(rows: Iterable[Sequence[Any]]) -> list[Doomed]:
    """From rows of DOOMED."""
    return [Doomed(*row) for row in rows]


def _parts(clearance: Clearance) -> Sequence[ColumnElement[bool]]:
    """The images that are meant, each condition with an index of its own."""
    mine = images.c.user_id == clearance.user_id
    listed = and_(mine, shown, images.c.created_at <= clearance.requested_at)
    if clearance.scope == "trash":
        return (listed,)
    trashed = and_(mine, hidden, remains, images.c.created_at <= clearance.requested_at)
    return (listed, trashed if clearance.scope == "everything" else and_(trashed, images.c.listed.is_(True)))


def _listed(user_id: str, image_ids: Collection[str]) -> ColumnElement[bool]:
    return and_(images.c.id.in_(image_ids), images.c.user_id == user_id, images.c.listed.is_(True))
