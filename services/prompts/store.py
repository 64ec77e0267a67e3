"""Own prompts, and whose favorites are which."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from core.clients.database import metadata, take_turn
from core.clock import Milliseconds
from core.text import fold
from services.prompts.models import LIBRARY_PREFIX, OwnPrompt, PromptFilter, searchable

prompts = Table(
    "prompts",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("category", String, nullable=False),
    Column("tags", Text, nullable=False),
    Column("searchable", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)
Index("ix_prompts_user_id_created_at", prompts.c.user_id, prompts.c.created_at)
Index("ix_prompts_expires_at", prompts.c.expires_at, sqlite_where=prompts.c.expires_at.is_not(None))

favorites = Table(
    "prompt_favorites",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("prompt_id", String, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)
Index("ix_prompt_favorites_prompt_id", favorites.c.prompt_id)
Index("ix_prompt_favorites_expires_at", favorites.c.expires_at, sqlite_where=favorites.c.expires_at.is_not(None))

_IS_FAVORITE = exists().where(favorites.c.user_id == prompts.c.user_id, favorites.c.prompt_id == prompts.c.id)


def add(connection: Connection, prompt: OwnPrompt, limit: int) -> bool:
    """False: their owner has `limit` already. One that is there stays as it is."""
    # Two who both found room for one more would both take it.
    take_turn(connection, f"prompts {prompt.user_id}")
    if get(connection, prompt.user_id, prompt.id) is not None:
        return True
    if connection.execute(select(func.count()).where(prompts.c.user_id == prompt.user_id)).scalar_one() >= limit:
        return False
    connection.execute(insert(prompts), _values(prompt))
    return True


def get(connection: Connection, user_id: str, prompt_id: str, *, locked: bool = False) -> OwnPrompt | None:
    found = select(prompts).where(prompts.c.id == prompt_id, prompts.c.user_id == user_id)
    row = connection.execute(found.with_for_update() if locked else found).one_or_none()
    return None if row is None else _prompt(row)


def replace(connection: Connection, prompt: OwnPrompt) -> None:
    """Write a prompt over what was there. The caller has it locked."""
    connection.execute(update(prompts).where(prompts.c.id == prompt.id).values(**_values(prompt)))


def remove(connection: Connection, user_id: str, prompt_id: str) -> bool:
    """False when there is no such prompt of theirs."""
    if get(connection, user_id, prompt_id, locked=True) is None:
        return False
    connection.execute(delete(favorites).where(favorites.c.prompt_id == prompt_id))
    connection.execute(delete(prompts).where(prompts.c.id == prompt_id))
    return True


def set_favorite(
    connection: Connection, user_id: str, prompt_id: str, now: Milliseconds | None, expires_at: Milliseconds | None
) -> None:
    """`now` None: it is none any more."""
    take_turn(connection, f"favorites {user_id}")
    this = and_(favorites.c.user_id == user_id, favorites.c.prompt_id == prompt_id)
    if now is None:
        connection.execute(delete(favorites).where(this))
    elif connection.execute(select(favorites.c.prompt_id).where(this)).one_or_none() is None:
        row = {"user_id": user_id, "prompt_id": prompt_id, "created_at": now, "expires_at": expires_at}
        connection.execute(insert(favorites), row)


def is_favorite(connection: Connection, user_id: str, prompt_id: str) -> bool:
    this = and_(favorites.c.user_id == user_id, favorites.c.prompt_id == prompt_id)
    return connection.execute(select(favorites.c.prompt_id).where(this)).one_or_none() is not None


def library_favorites(connection: Connection, user_id: str) -> frozenset[str]:
    """Ids of prompts of the library, of which there are no more than the library has."""
    theirs = and_(favorites.c.user_id == user_id, favorites.c.prompt_id.like(f"{LIBRARY_PREFIX}\\_%", escape="\\"))
    return frozenset(connection.execute(select(favorites.c.prompt_id).where(theirs)).scalars())


def page(
    connection: Connection, user_id: str, where: PromptFilter, now: Milliseconds, limit: int, offset: int
) -> list[tuple[OwnPrompt, bool]]:
    """The newest first; each with whether it is a favorite."""
    found = select(prompts, _IS_FAVORITE.label("is_favorite")).where(*_conditions(user_id, where, now))
    if where.category is not None:
        found = found.where(prompts.c.category == where.category)
    newest = found.order_by(prompts.c.created_at.desc(), prompts.c.id.desc()).limit(limit).offset(offset)
    return [(_prompt(row), bool(row.is_favorite)) for row in connection.execute(newest)]


def by_category(connection: Connection, user_id: str, where: PromptFilter, now: Milliseconds) -> dict[str, int]:
    """How many there are of each, whatever category is asked for."""
    counted = select(prompts.c.category, func.count()).where(*_conditions(user_id, where, now))
    rows = connection.execute(counted.group_by(prompts.c.category))
    return {row[0]: row[1] for row in rows}


def everything(connection: Connection, user_id: str) -> list[tuple[OwnPrompt, bool]]:
    """All that somebody keeps, in the order of their making."""
    found = select(prompts, _IS_FAVORITE.label("is_favorite")).where(prompts.c.user_id == user_id)
    rows = connection.execute(found.order_by(prompts.c.created_at, prompts.c.id))
    return [(_prompt(row), bool(row.is_favorite)) for row in rows]


def hand_over(connection: Connection, user_id: str, heir: str) -> None:
    """What a guest kept is this user's, for good."""
    take_turn(connection, f"favorites {heir}")
    connection.execute(update(prompts).where(prompts.c.user_id == user_id).values(user_id=heir, expires_at=None))
    theirs = select(favorites.c.prompt_id).where(favorites.c.user_id == heir).scalar_subquery()
    both = and_(favorites.c.user_id == user_id, favorites.c.prompt_id.in_(theirs))
    connection.execute(delete(favorites).where(both))
    connection.execute(update(favorites).where(favorites.c.user_id == user_id).values(user_id=heir, expires_at=None))


def forget_user(connection: Connection, user_id: str) -> None:
    connection.execute(delete(favorites).where(favorites.c.user_id == user_id))
    connection.execute(delete(prompts).where(prompts.c.user_id == user_id))


def remove_expired(connection: Connection, now: Milliseconds, limit: int) -> int:
    """Some of what guests kept and whose time is over; answers how many."""
    due = select(prompts.c.id).where(prompts.c.expires_at < now).limit(limit)
    ids = connection.execute(due).scalars().all()
    connection.execute(delete(favorites).where(or_(favorites.c.expires_at < now, favorites.c.prompt_id.in_(ids))))
    connection.execute(delete(prompts).where(prompts.c.id.in_(ids), prompts.c.expires_at < now))
    return len(ids)


def _conditions(user_id: str, where: PromptFilter, now: Milliseconds) -> list[ColumnElement[bool]]:
    """All but the category."""
    asked = [prompts.c.user_id == user_id, or_(prompts.c.expires_at.is_(None), prompts.c.expires_at >= now)]
    if where.search is not None:
        asked.append(prompts.c.searchable.contains(fold(where.search), autoescape=True))
    if where.favorites_only:
        asked.append(_IS_FAVORITE)
    return asked


def _values(prompt: OwnPrompt) -> Mapping[str, Any]:
    tags = orjson.dumps(prompt.tags).decode()
    return vars(prompt) | {"tags": tags, "searchable": searchable(prompt.title, prompt.prompt, prompt.tags)}


def _prompt(row: Row[Any]) -> OwnPrompt:
    return OwnPrompt(
        id=row.id,
        user_id=row.user_id,
        title=row.title,
        prompt=row.prompt,
        category=row.category,
        tags=tuple(orjson.loads(row.tags)),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
