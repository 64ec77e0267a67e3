"""The audit as admins ask for it: a row a check, beside the entry in storage, which no question could be asked of.

Rows are written together once a second: a transaction of its own would cost a generation more than the whole check.
What a killed process had not written yet is in storage alone.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)

from core.clients.database import Database, metadata
from core.clock import Milliseconds
from core.errors import DependencyUnavailable
from core.logging import get_logger
from core.paging import Page
from services.moderation.models import Decision, ModerationCheck

WRITE_EVERY_SECONDS = 1.0
MOST_AT_ONCE = 1_000
MAX_WAITING = 10_000  # of some 500 bytes; while the database is away

checks = Table(
    "moderation_checks",
    metadata,
    Column("id", String, primary_key=True),
    Column("checked_at", BigInteger, nullable=False),
    Column("user_id", String),
    Column("request_id", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("prompt_sha256", String, nullable=False),
    Column("prompt", Text),
    Column("decision", String, nullable=False),
    Column("layer", String, nullable=False),
    Column("category", String),
    Column("layers", Text, nullable=False),
    Column("duration_ms", Float, nullable=False),
)
Index("ix_moderation_checks_checked_at_id", checks.c.checked_at, checks.c.id)
Index("ix_moderation_checks_user_id_checked_at", checks.c.user_id, checks.c.checked_at)
# The few that an operator looks for. PostgreSQL's condition stands in the migration.
Index(
    "ix_moderation_checks_noted",
    checks.c.decision,
    checks.c.checked_at,
    checks.c.id,
    sqlite_where=checks.c.decision != Decision.PASSED.value,
)

log = get_logger(__name__)


@dataclass(frozen=True)
class AuditFilter:
    """None: not asked for. `layer`: the last that spoke. Of `anonymous`, those without an account alone.

    Times are inclusive at the start, exclusive at the end.
    """

    decision: Decision | None = None
    layer: str | None = None
    user_id: str | None = None
    anonymous: bool = False
    mode: str | None = None
    date_from: Milliseconds | None = None
    date_to: Milliseconds | None = None


@dataclass(frozen=True)
class AuditEntry:
    """One check. `prompt` None: prompts are not kept. `layers` as in the entries in storage."""

    id: str
    checked_at: Milliseconds
    user_id: str | None
    request_id: str
    mode: str
    prompt_sha256: str
    prompt: str | None
    decision: Decision
    layer: str
    category: str | None
    layers: tuple[Mapping[str, Any], ...]
    duration_ms: float


class AuditIndex:
    """`on_failure` is called once for each row that was lost, for a counter."""

    def __init__(self, database: Database, *, with_prompts: bool, on_failure: Callable[[], None]) -> None:
        self._database = database
        self._with_prompts = with_prompts
        self._on_failure = on_failure
        self._waiting: dict[str, ModerationCheck] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, check: ModerationCheck) -> None:
        """Write a finished check with the others of this second. A database that is away is waited for, in bounds."""
        if len(self._waiting) >= MAX_WAITING:
            self._on_failure()
            return
        self._waiting[check.id] = check
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_in_a_while())

    async def page(self, where: AuditFilter, limit: int, offset: int) -> Page[AuditEntry]:
        """The newest first."""
        items, total = await self._database.read(lambda connection: _page(connection, where, limit, offset))
        return Page(items, total, limit, offset)

    async def forget(self, user_id: str) -> None:
        """Remove the rows of somebody who has left."""
        self._waiting = {id_: check for id_, check in self._waiting.items() if check.context.user_id != user_id}
        await self._database.write(
            lambda connection: connection.execute(delete(checks).where(checks.c.user_id == user_id))
        )

    async def close(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        for _ in range(0, MAX_WAITING, MOST_AT_ONCE):
            await self._write()

    async def _write_in_a_while(self) -> None:
        while self._waiting:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await self._write()
        self._writing = None

    async def _write(self) -> None:
        waiting = list(self._waiting.items())
        some, self._waiting = dict(waiting[:MOST_AT_ONCE]), dict(waiting[MOST_AT_ONCE:])
        rows = [_row(check, with_prompt=self._with_prompts) for check in some.values()]
        if not rows:
            return
        try:
            await self._database.write(lambda connection: _enter(connection, rows))
        except DependencyUnavailable as error:
            log.warning("moderation checks not indexed yet", count=len(rows), reason=str(error))
            self._waiting = some | self._waiting
        except asyncio.CancelledError:
            self._waiting = some | self._waiting
            raise


def _row(check: ModerationCheck, *, with_prompt: bool) -> dict[str, Any]:
    last = check.layers[-1]
    return {
        "id": check.id,
        "checked_at": check.started_at,
        "user_id": check.context.user_id,
        "request_id": check.context.request_id,
        "mode": check.context.mode,
        "prompt_sha256": check.prompt_sha256,
        "prompt": check.prompt_as_text if with_prompt else None,
        "decision": check.decision.value,
        "layer": last.layer,
        "category": last.category,
        "layers": orjson.dumps([layer.as_entry() for layer in check.layers]).decode(),
        "duration_ms": round(check.duration_ms, 3),
    }


def _enter(connection: Connection, rows: Collection[Mapping[str, Any]]) -> None:
    """Also those that a transaction whose end nobody saw may have entered, and checks that were finished again."""
    connection.execute(delete(checks).where(checks.c.id.in_([row["id"] for row in rows])))
    connection.execute(insert(checks), list(rows))


def _page(connection: Connection, where: AuditFilter, limit: int, offset: int) -> tuple[tuple[AuditEntry, ...], int]:
    asked = list(_conditions(where))
    total = connection.execute(select(func.count()).select_from(checks).where(*asked)).scalar_one()
    newest = select(checks).where(*asked).order_by(checks.c.checked_at.desc(), checks.c.id.desc())
    rows = connection.execute(newest.limit(limit).offset(offset))
    return tuple(map(_entry, rows)), total


def _conditions(where: AuditFilter) -> list[ColumnElement[bool]]:
    columns = {
        "decision": checks.c.decision,
        "layer": checks.c.layer,
        "user_id": checks.c.user_id,
        "mode": checks.c.mode,
    }
    asked = [column == value for name, column in columns.items() if (value := getattr(where, name)) is not None]
    if where.anonymous:
        asked.append(checks.c.user_id.is_(None))
    if where.date_from is not None:
        asked.append(checks.c.checked_at >= where.date_from)
    if where.date_to is not None:
        asked.append(checks.c.checked_at < where.date_to)
    return asked


def _entry(row: Row[Any]) -> AuditEntry:
    values = dict(row._mapping)
    return AuditEntry(**values | {"decision": Decision(row.decision), "layers": tuple(orjson.loads(row.layers))})
