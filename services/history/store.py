"""The image index."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from services.history.models import HistoryFilter, Image, ListedImage, Sort

images = Table(
    "images",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("folder_id", String, nullable=False),
    Column("key", String, nullable=False, unique=True),
    Column("mode", String, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("aspect_ratio", String, nullable=False),
    Column("resolution", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("duration", Float, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mime_type", String, nullable=False),
    Column("call_id", String, nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("negative_prompt", Text),
    Column("seed", BigInteger),
    Column("safety_level", String),
    Column("session_id", String),
    Column("chat_index", Integer),
    Column("task_id", String),
    Column("text_response", Text),
    Column("thinking", Text),
    Column("search_sources", Text),
    Column("is_favorite", Boolean, nullable=False),
    Column("expires_at", BigInteger),
    Column("deleted_at", BigInteger),
)
_shown = and_(images.c.listed.is_(True), images.c.deleted_at.is_(None))
# PostgreSQL's conditions of these stand in the migration: naming them here would load that dialect into every process.
Index("ix_images_history", images.c.user_id, images.c.created_at, images.c.id, sqlite_where=_shown)
Index("ix_images_expires_at", images.c.expires_at, sqlite_where=images.c.expires_at.isnot(None))
Index("ix_images_deleted_at", images.c.deleted_at, sqlite_where=images.c.deleted_at.isnot(None))

# `deleted_at` of what is being removed for good: from there no image comes back.
PURGING: Milliseconds = 0

# A list never shows the long texts, so it does not read them.
_LONG_TEXTS = ("text_response", "thinking", "search_sources")
_list_columns = [column for column in images.c if column.name not in _LONG_TEXTS]
_INSERT = insert(images)
_ORDERS: dict[Sort, tuple[ColumnElement[Any], ...]] = {
    "newest": (images.c.created_at.desc(), images.c.id.desc()),
    "oldest": (images.c.created_at.asc(), images.c.id.asc()),
    "fastest": (images.c.duration.asc(), images.c.created_at.desc(), images.c.id.desc()),
    "slowest": (images.c.duration.desc(), images.c.created_at.desc(), images.c.id.desc()),
}


def add_image(connection: Connection, image: Image) -> None:
    """An IntegrityError means that it is there already."""
    connection.execute(_INSERT, dict(vars(image)))


def get_image(connection: Connection, image_id: str) -> Image | None:
    """Any image, listed or not, in the trash or not."""
    row = connection.execute(select(images).where(images.c.id == image_id)).one_or_none()
    return None if row is None else _image(row)


class PageStatements:
    """The statements of lists, each built and compiled once: doing it anew costs more than running it."""

    def __init__(self, compiled: Callable[[Select[Any]], str]) -> None:
        self._compiled = compiled
        self._known: dict[tuple[tuple[str, ...], Sort], str] = {}

    def page(
        self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int
    ) -> tuple[str, dict[str, Any]]:
        """A statement whose one row `page_of` understands, and its values."""
        values = {name: value for name, value in vars(where).items() if value not in (None, False)}
        shape = (tuple(values), sort)
        if shape not in self._known:
            self._known[shape] = self._compiled(_page_statement(*shape))
        return self._known[shape], values | {"user_id": user_id, "limit": limit, "offset": offset}


def _page_statement(asked: tuple[str, ...], sort: Sort) -> Select[Any]:
    """The exact total, and the page as one JSON text.

    Each row that SQLite hands over lets go of the interpreter and waits to have it back; with one row for all of them a
    busy process answers twice as many pages (docs/adr/0005).
    """
    known: dict[str, ColumnElement[bool]] = {
        "mode": images.c.mode == bindparam("mode"),
        "session_id": images.c.session_id == bindparam("session_id"),
        "favorites_only": images.c.is_favorite == bindparam("favorites_only"),
        "date_from": images.c.created_at >= bindparam("date_from"),
        "date_to": images.c.created_at < bindparam("date_to"),
    }
    condition = and_(images.c.user_id == bindparam("user_id"), _shown, *(known[name] for name in asked))
    columns = [images.c[name] for name in ListedImage._fields]
    page = select(*columns).where(condition).order_by(*_ORDERS[sort])
    rows = page.limit(bindparam("limit")).offset(bindparam("offset")).subquery()
    total = select(func.count()).select_from(images).where(condition).scalar_subquery()
    return select(total, select(func.json_group_array(func.json_array(*rows.c))).scalar_subquery())


def page_of(row: tuple[Any, ...]) -> tuple[tuple[ListedImage, ...], int]:
    """The images of a page, and the total."""
    total, rows = row
    return tuple(map(ListedImage._make, orjson.loads(rows))), total


def set_deleted(connection: Connection, user_id: str, image_id: str, deleted_at: Milliseconds | None) -> bool:
    """Move into the trash (a time) or back (None). False when there is no such image to be moved."""
    here = images.c.deleted_at.is_(None) if deleted_at is not None else images.c.deleted_at > PURGING
    result = connection.execute(
        update(images)
        .where(images.c.id == image_id, images.c.user_id == user_id, images.c.listed.is_(True), here)
        .values(deleted_at=deleted_at)
    )
    return result.rowcount > 0


def take(connection: Connection, user_id: str, image_id: str) -> Image | None:
    """Take a listed image, in the trash or not, for removal: nothing can bring it back from now on."""
    mine = and_(images.c.id == image_id, images.c.user_id == user_id, images.c.listed.is_(True))
    connection.execute(update(images).where(mine).values(deleted_at=PURGING))
    row = connection.execute(select(*_list_columns).where(mine)).one_or_none()
    return None if row is None else _image(row)


def take_due(connection: Connection, now: Milliseconds, trashed_before: Milliseconds, limit: int) -> list[Image]:
    """Take for removal, as `take` does, images whose time is over or that lay in the trash long enough."""
    due = or_(images.c.expires_at <= now, images.c.deleted_at <= trashed_before)
    some = select(images.c.id).where(due).limit(limit)
    connection.execute(update(images).where(images.c.id.in_(some), due).values(deleted_at=PURGING))
    taken = select(*_list_columns).where(images.c.deleted_at == PURGING).limit(limit)
    return [_image(row) for row in connection.execute(taken)]


def remove_rows(connection: Connection, image_ids: Iterable[str]) -> None:
    connection.execute(delete(images).where(images.c.id.in_(list(image_ids))))


def _image(row: Row[Any]) -> Image:
    image = object.__new__(Image)
    # Its own __init__ sets each of thirty frozen fields by a call: twenty images would cost more than their query.
    vars(image).update(row._mapping)
    return image
