"""The table of tasks, and what is read of it. Its changes of state are in `transitions`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    true,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from services.quota.models import QuotaIdentity, Reservation
from services.tasks.models import ItemResult, Task, TaskError, TaskFilter

tasks = Table(
    "tasks",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("params", Text, nullable=False),
    Column("results", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("error", Text),
    Column("error_code", String),
    Column("client_job_id", String),
    Column("key_id", String),
    Column("own_key", Text),
    Column("reservation", Text),
    Column("reference_count", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("worker", String),
    Column("lease_until", BigInteger),
    Column("cancel_requested_at", BigInteger),
    Column("queued_at", BigInteger),
    Column("time_limit_ms", BigInteger, nullable=False),
    Column("callback_url", Text),
    Column("webhook_secret", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("expires_at", BigInteger),
)
# Conditions of partial indices; PostgreSQL's stand in the migration.
waiting = tasks.c.status == "pending"
running = tasks.c.status == "processing"
failed = tasks.c.status == "failed"
to_close = and_(tasks.c.completed_at.is_not(None), tasks.c.closed_at.is_(None))
with_references = tasks.c.reference_count > 0
expiring = tasks.c.expires_at.is_not(None)
Index("ix_tasks_user_id_created_at_id", tasks.c.user_id, tasks.c.created_at, tasks.c.id)
Index("ix_tasks_created_at_id", tasks.c.created_at, tasks.c.id)
Index("ix_tasks_waiting", tasks.c.user_id, tasks.c.created_at, tasks.c.id, sqlite_where=waiting)
Index("ix_tasks_queued", tasks.c.queued_at, tasks.c.created_at, sqlite_where=waiting)
Index("ix_tasks_running", tasks.c.lease_until, sqlite_where=running)
Index("ix_tasks_failed", tasks.c.completed_at, tasks.c.error_code, sqlite_where=failed)
Index("ix_tasks_expiring", tasks.c.expires_at, sqlite_where=expiring)
Index("ix_tasks_to_close", tasks.c.completed_at, sqlite_where=to_close)
Index("ix_tasks_with_references", tasks.c.completed_at, sqlite_where=with_references)

_CLOSE = (
    update(tasks)
    .where(tasks.c.id == bindparam("of_id"), tasks.c.round == bindparam("of_round"), to_close)
    .values(closed_at=bindparam("at"), reference_count=bindparam("left"))
)
_JSON = ("params", "results", "error", "reservation")


def row_of(task: Task) -> dict[str, Any]:
    row = dict(vars(task), error_code=code_of(task.error))
    return row | {name: None if row[name] is None else packed(row[name]) for name in _JSON}


def code_of(error: TaskError | None) -> str | None:
    """A column of its own, since operators look for it."""
    return None if error is None else error.code


def packed(value: Any) -> str:
    return orjson.dumps(value).decode()


def task_of(row: Row[Any]) -> Task:
    values = dict(row._mapping)
    del values["error_code"]  # it stands in the error
    values["params"] = orjson.loads(values["params"])
    values["results"] = tuple(_result(given) for given in orjson.loads(values["results"]))
    values["error"] = None if values["error"] is None else TaskError(**orjson.loads(values["error"]))
    if values["reservation"] is not None:
        given = orjson.loads(values["reservation"])
        values["reservation"] = Reservation(**{**given, "identity": QuotaIdentity(**given["identity"])})
    return Task(**values)


def _result(given: Mapping[str, Any]) -> ItemResult:
    error = given["error"]
    return ItemResult(given["index"], given["data"], None if error is None else TaskError(**error))


def add_task(connection: Connection, task: Task) -> None:
    """An IntegrityError means that it is there already."""
    connection.execute(insert(tasks), row_of(task))


def get_task(connection: Connection, task_id: str) -> Task | None:
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).one_or_none()
    return None if row is None else task_of(row)


def page(connection: Connection, where: TaskFilter, limit: int, offset: int) -> tuple[tuple[Task, ...], int]:
    """The newest first, and how many there are."""
    condition = _fitting(where)
    total = connection.execute(select(func.count()).select_from(tasks).where(condition)).scalar_one()
    rows = connection.execute(
        select(tasks)
        .where(condition)
        .order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return tuple(map(task_of, rows)), total


def _fitting(where: TaskFilter) -> ColumnElement[bool]:
    equal = {"status": where.status, "kind": where.kind, "error_code": where.error_code}
    asked = [tasks.c[name] == value for name, value in equal.items() if value is not None]
    if where.user_ids is not None:
        asked.append(tasks.c.user_id.in_(where.user_ids))
    return and_(true(), *asked)


def find(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[Task]:
    """Some that fit, in no order."""
    return [task_of(row) for row in connection.execute(select(tasks).where(condition).limit(limit))]


def delete_closed(connection: Connection, user_id: str, task_id: str) -> bool:
    """Forget a task of which nothing is to be done any more. False: there is no such task."""
    done = and_(tasks.c.id == task_id, tasks.c.user_id == user_id, tasks.c.closed_at.is_not(None))
    return connection.execute(delete(tasks).where(done).returning(tasks.c.id)).one_or_none() is not None


def hand_over(connection: Connection, user_id: str, heir: str) -> None:
    """What has ended of somebody's tasks is another's from now on."""
    ended = and_(tasks.c.user_id == user_id, tasks.c.closed_at.is_not(None))
    connection.execute(update(tasks).where(ended).values(user_id=heir, expires_at=None))


def expired(now: Milliseconds) -> ColumnElement[bool]:
    """What is to be forgotten, of which nothing is to be done any more."""
    return and_(tasks.c.expires_at < now, tasks.c.closed_at.is_not(None))


def remain(connection: Connection, user_id: str) -> bool:
    return connection.execute(select(tasks.c.id).where(tasks.c.user_id == user_id).limit(1)).first() is not None


def closed_among(connection: Connection, task_ids: Collection[str]) -> dict[str, bool]:
    """Those of these that there are, and of which nothing is to be done any more."""
    rows = connection.execute(select(tasks.c.id, tasks.c.closed_at).where(tasks.c.id.in_(task_ids)))
    return {task_id: closed_at is not None for task_id, closed_at in rows}


def oldest_open(connection: Connection) -> Milliseconds | None:
    """When the oldest task was made of which something is still to be done."""
    asked = select(func.min(tasks.c.created_at)).where(tasks.c.closed_at.is_(None))
    oldest: Milliseconds | None = connection.execute(asked).scalar_one()
    return oldest


def close(connection: Connection, ended: Sequence[Task], now: Milliseconds) -> None:
    """All was done that follows the end of these rounds; the references of one that is completed are gone."""
    connection.execute(
        _CLOSE,
        [
            {
                "of_id": task.id,
                "of_round": task.round,
                "at": now,
                "left": 0 if task.status == "completed" else task.reference_count,
            }
            for task in ended
        ],
    )


def without_references(connection: Connection, task_id: str) -> None:
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(reference_count=0))


def users_waiting(connection: Connection) -> list[str]:
    """Whose tasks wait for their turn."""
    asked = select(tasks.c.user_id).where(waiting, tasks.c.queued_at.is_(None)).distinct()
    return list(connection.execute(asked).scalars())


def alive(connection: Connection, tickets: Sequence[str]) -> set[str]:
    """Those of these tickets that still belong to a task that waits or runs."""
    ids = {ticket.rpartition(":")[0] for ticket in tickets}
    rows = connection.execute(select(tasks.c.id, tasks.c.queued_at).where(tasks.c.id.in_(ids), waiting | running))
    return {f"{task_id}:{queued_at}" for task_id, queued_at in rows}
