"""Reading many images whole, a batch at a time."""

from collections.abc import Collection

from sqlalchemy import Connection, Select, and_, select, tuple_

from services.history.models import HistoryFilter, Image
from services.history.store import FILTERS, IMAGE_COLUMNS, asked_of, hidden, image_of, images, remains, shown

_NEWEST_FIRST = (images.c.created_at.desc(), images.c.id.desc())


def next_listed(
    connection: Connection, user_id: str, where: HistoryFilter, after: Image | None, limit: int
) -> list[Image]:
    """The newest of those that fit, or those that come after one of them."""
    asked = asked_of(where)
    statement = select(*IMAGE_COLUMNS).where(images.c.user_id == user_id, shown, *(FILTERS[name] for name in asked))
    if after is not None:
        statement = statement.where(tuple_(images.c.created_at, images.c.id) < (after.created_at, after.id))
    rows = connection.execute(statement.order_by(*_NEWEST_FIRST).limit(limit), asked)
    return [image_of(row) for row in rows]


def listed_by_id(connection: Connection, user_id: str, image_ids: Collection[str]) -> dict[str, Image]:
    statement = select(*IMAGE_COLUMNS).where(images.c.id.in_(image_ids), images.c.user_id == user_id, shown)
    return {row.id: image_of(row) for row in connection.execute(statement)}


def keys_among(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these storage keys that a row has, whatever is to become of it."""
    return set(connection.execute(select(images.c.key).where(images.c.key.in_(keys))).scalars())


def remaining_of(connection: Connection, user_id: str, limit: int) -> list[Image]:
    """Some images of a user, also unlisted ones and those in the trash, but none that is being removed for good."""
    mine = images.c.user_id == user_id
    # One after the other, since each has an index of its own.
    parts: tuple[Select[tuple[object, ...]], ...] = (
        select(*IMAGE_COLUMNS).where(mine, shown).limit(limit),
        select(*IMAGE_COLUMNS).where(and_(mine, hidden, remains)).limit(limit),
    )
    for part in parts:
        if found := [image_of(row) for row in connection.execute(part)]:
            return found
    return []
