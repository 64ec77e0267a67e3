"""What goes by itself: taken for removal at most `limit` at a time, the oldest first."""

from sqlalchemy import Connection, and_, func, select, update

from core.clients.database import take_turn
from core.clock import Milliseconds
from services.history.store import PURGING, images, remains
from services.history.trash import DOOMED, Doomed, doomed_of, mark

_OLDEST_FIRST = (images.c.created_at, images.c.id)


def take_trashed(connection: Connection, before: Milliseconds, limit: int) -> list[Doomed]:
    """What lay in the trash long enough: since `before`, or longer."""
    which = and_(images.c.deleted_at <= before, images.c.deleted_at > PURGING)
    return mark(connection, which, limit, PURGING, (images.c.deleted_at,))


def take_expired(connection: Connection, now: Milliseconds, limit: int, *, listed: bool) -> list[Doomed]:
    """What was only kept for a while: what guests made (`listed`), or what was not saved to the history."""
    which = and_(images.c.expires_at <= now, remains, images.c.listed.is_(listed))
    return mark(connection, which, limit, PURGING, (images.c.expires_at,))


def take_older(connection: Connection, before: Milliseconds, limit: int) -> list[Doomed]:
    """Whatever was made before that moment."""
    return mark(connection, and_(images.c.created_at < before, remains), limit, PURGING, _OLDEST_FIRST)


def take_over_cap(connection: Connection, cap: int, limit: int) -> list[Doomed]:
    """The oldest of all, as many as have to go until the rest has at most `cap` bytes."""
    take_turn(connection, "storage cap")
    oldest = select(*DOOMED).where(remains).order_by(*_OLDEST_FIRST).limit(limit)
    candidates = doomed_of(connection.execute(oldest.with_for_update()))
    # Added up once they are locked: what others delete at the same time is either not among them, or not in the sum.
    too_much = stored_bytes(connection) - cap
    going = []
    for image in candidates:
        if too_much <= 0:
            break
        going.append(image)
        too_much -= image.size
    connection.execute(update(images).where(images.c.id.in_([image.id for image in going])).values(deleted_at=PURGING))
    return going


def stored_bytes(connection: Connection) -> int:
    """Of all images, listed or not, those in the trash too, but not of those that are on their way out."""
    return int(connection.execute(select(func.coalesce(func.sum(images.c.size), 0)).where(remains)).scalar_one())
