"""The image index."""

from collections.abc import Mapping
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
    func,
    insert,
    or_,
    select,
    update,
)

from core.clients.database import Database, Prepared, metadata
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
shown = and_(images.c.listed.is_(True), images.c.deleted_at.is_(None))
# `deleted_at` of what is being removed for good: from there no image comes back.
PURGING: Milliseconds = 0
remains = or_(images.c.deleted_at.is_(None), images.c.deleted_at > PURGING)
hidden = or_(images.c.listed.is_(False), images.c.deleted_at.is_not(None))
# PostgreSQL's conditions of these stand in the migration: naming them here would load that dialect into every process.
Index("ix_images_history", images.c.user_id, images.c.created_at, images.c.id, sqlite_where=shown)
Index(
    "ix_images_favorites",
    images.c.user_id,
    images.c.created_at,
    images.c.id,
    sqlite_where=and_(shown, images.c.is_favorite.is_(True)),
)
Index("ix_images_hidden", images.c.user_id, sqlite_where=hidden)
Index("ix_images_expires_at", images.c.expires_at, sqlite_where=images.c.expires_at.isnot(None))
Index("ix_images_deleted_at", images.c.deleted_at, images.c.id, sqlite_where=images.c.deleted_at.isnot(None))
# The oldest of all users, and how many bytes there are of all together.
Index("ix_images_age", images.c.created_at, images.c.size, images.c.deleted_at)

_INSERT = insert(images)
_ORDERS: dict[Sort, tuple[ColumnElement[Any], ...]] = {
    "newest": (images.c.created_at.desc(), images.c.id.desc()),
    "oldest": (images.c.created_at.asc(), images.c.id.asc()),
    "fastest": (images.c.duration.asc(), images.c.created_at.desc(), images.c.id.desc()),
    "slowest": (images.c.duration.desc(), images.c.created_at.desc(), images.c.id.desc()),
}
# By the fields of HistoryFilter.
FILTERS: dict[str, ColumnElement[bool]] = {
    "mode": images.c.mode == bindparam("mode"),
    "session_id": images.c.session_id == bindparam("session_id"),
    "favorites_only": images.c.is_favorite.is_(True),  # as the index of favorites has it
    "date_from": images.c.created_at >= bindparam("date_from"),
    "date_to": images.c.created_at < bindparam("date_to"),
}


def asked_of(where: HistoryFilter) -> dict[str, Any]:
    """The fields that a filter asks for, by their names in FILTERS."""
    return {name: value for name, value in vars(where).items() if value is not None and value is not False}


def add_image(connection: Connection, image: Image) -> None:
    """An IntegrityError means that it is there already."""
    connection.execute(_INSERT, dict(vars(image)))


def get_image(connection: Connection, image_id: str) -> Image | None:
    """Any image, listed or not, in the trash or not."""
    row = connection.execute(select(images).where(images.c.id == image_id)).one_or_none()
    return None if row is None else image_of(row)


def change_image(connection: Connection, image_id: str, user_id: str, values: Mapping[str, Any]) -> bool:
    """False when it is not this user's any more, or is being removed for good."""
    there = and_(images.c.id == image_id, images.c.user_id == user_id, remains)
    return connection.execute(update(images).where(there).values(**values)).rowcount > 0


class PageStatements:
    """The statements of lists, each built and compiled once: doing it anew costs more than running it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[tuple[str, ...], Sort], Prepared] = {}

    def page(
        self, user_id: str, where: HistoryFilter, sort: Sort, limit: int, offset: int
    ) -> tuple[Prepared, dict[str, Any]]:
        """A statement whose one row `page_of` understands, and its values."""
        values = asked_of(where)
        shape = (tuple(values), sort)
        if shape not in self._known:
            self._known[shape] = self._database.prepared(self._statement(*shape))
        return self._known[shape], values | {"user_id": user_id, "limit": limit, "offset": offset}

    def _statement(self, asked: tuple[str, ...], sort: Sort) -> Select[Any]:
        """The exact total, and the page as one JSON text.

        Each row that SQLite hands over lets go of the interpreter and waits to have it back; with one row for all of
        them a busy process answers twice as many pages (docs/adr/0005).
        """
        condition = and_(images.c.user_id == bindparam("user_id"), shown, *(FILTERS[name] for name in asked))
        columns = [images.c[name] for name in ListedImage._fields]
        page = select(*columns).where(condition).order_by(*_ORDERS[sort])
        rows = page.limit(bindparam("limit")).offset(bindparam("offset")).subquery()
        total = select(func.count()).select_from(images).where(condition).scalar_subquery()
        return select(total, select(self._database.json_rows(*rows.c)).scalar_subquery())


def page_of(row: tuple[Any, ...]) -> tuple[tuple[ListedImage, ...], int]:
    """The images of a page, and the total."""
    total, rows = row
    return tuple(map(ListedImage._make, orjson.loads(rows))), total


def image_of(row: Row[Any]) -> Image:
    image = object.__new__(Image)
    # Its own __init__ sets each of thirty frozen fields by a call: twenty images would cost more than their query.
    vars(image).update(row._mapping)
    return image
