"""The image index."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Computed,
    Connection,
    Float,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    and_,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from core.text import fold
from services.history.models import HistoryFilter, Image, Sort

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
    # For the search alone: no fields of Image. What a process of an earlier version writes is folded by the worker.
    Column("folded", Text, default=lambda context: fold(context.get_current_parameters()["prompt"])),
    Column("search_slot", BigInteger),
    # What the images of one chat, or of one batch, have in common; the database works it out.
    Column("group_id", String, Computed("coalesce(session_id, task_id)")),
)
shown = and_(images.c.listed.is_(True), images.c.deleted_at.is_(None))
# `deleted_at` of what is being removed for good: from there no image comes back.
PURGING: Milliseconds = 0
remains = or_(images.c.deleted_at.is_(None), images.c.deleted_at > PURGING)
hidden = or_(images.c.listed.is_(False), images.c.deleted_at.is_not(None))
in_a_group = images.c.group_id.is_not(None)
unsealed = images.c.search_slot.is_(None)
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
Index(
    "ix_images_groups",
    images.c.user_id,
    images.c.group_id,
    images.c.created_at,
    images.c.id,
    sqlite_where=and_(shown, in_a_group),
)
Index("ix_images_duration", images.c.user_id, images.c.duration, images.c.created_at, images.c.id, sqlite_where=shown)
Index("ix_images_unsealed", images.c.user_id, images.c.created_at, images.c.id, sqlite_where=and_(shown, unsealed))
# With what a search has to know of most of its hits.
Index(
    "ix_images_search_slot",
    images.c.search_slot,
    images.c.deleted_at,
    images.c.created_at,
    images.c.id,
    sqlite_where=images.c.search_slot.is_not(None),
)
Index("ix_images_unfolded", images.c.id, sqlite_where=images.c.folded.is_(None))
Index("ix_images_expires_at", images.c.expires_at, sqlite_where=images.c.expires_at.isnot(None))
Index("ix_images_deleted_at", images.c.deleted_at, images.c.id, sqlite_where=images.c.deleted_at.isnot(None))
# The oldest of all users, and how many bytes there are of all together.
Index("ix_images_age", images.c.created_at, images.c.size, images.c.deleted_at)

# Kept by the database itself, by triggers: how many images a user sees, of each mode, favorites and others.
shown_counts = Table(
    "shown_counts",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("mode", String, primary_key=True),
    Column("is_favorite", Boolean, primary_key=True),
    Column("shown", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

IMAGE_COLUMNS = tuple(images.c[field.name] for field in fields(Image))
_INSERT = insert(images)
ORDERS: dict[Sort, tuple[ColumnElement[Any], ...]] = {
    "newest": (images.c.created_at.desc(), images.c.id.desc()),
    "oldest": (images.c.created_at.asc(), images.c.id.asc()),
    "fastest": (images.c.duration.asc(), images.c.created_at.desc(), images.c.id.desc()),
    "slowest": (images.c.duration.desc(), images.c.created_at.desc(), images.c.id.desc()),
}
# By the fields of HistoryFilter.
FILTERS: dict[str, ColumnElement[bool]] = {
    "mode": images.c.mode == bindparam("mode"),
    # The same again, for the index of groups.
    "session_id": and_(
        images.c.session_id == bindparam("session_id"), images.c.group_id == bindparam("session_id"), in_a_group
    ),
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
    row = connection.execute(select(*IMAGE_COLUMNS).where(images.c.id == image_id)).one_or_none()
    return None if row is None else image_of(row)


def change_image(connection: Connection, image_id: str, user_id: str, values: Mapping[str, Any]) -> bool:
    """False when it is not this user's any more, or is being removed for good."""
    there = and_(images.c.id == image_id, images.c.user_id == user_id, remains)
    if values.get("user_id", user_id) != user_id:
        # A slot is its owner's, in whose index it stands.
        values = {**values, "search_slot": None}
    return connection.execute(update(images).where(there).values(**values)).rowcount > 0


def image_of(row: Row[Any]) -> Image:
    image = object.__new__(Image)
    # Its own __init__ sets each of thirty frozen fields by a call: twenty images would cost more than their query.
    vars(image).update(row._mapping)
    return image
