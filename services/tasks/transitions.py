"""Every change of a task's state, each a compare-and-set in one UPDATE: who comes late, twice or from another worker
changes nothing.

    pending    → processing   a worker starts it
    pending    → cancelled    its user wants that
    processing → completed, failed, cancelled
    processing → pending      its worker died, or hands it back
    failed, cancelled → pending   its user wants it tried again: a new round

The functions belong into a transaction and answer the task as it then stands, None where nothing was changed. The
events are told after the transaction, by whoever runs it.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, and_, bindparam, case, func, select, update

from core.clients.database import take_turn
from core.clock import Milliseconds
from services.quota.models import Reservation
from services.quota.task_quota import TaskQuota
from services.tasks.events import TaskStatus
from services.tasks.models import Ending, ItemResult, Task
from services.tasks.store import add_task, code_of, packed, running, task_of, tasks, waiting
from services.webhooks.service import WebhookService

LEASE_MS = 15_000
_NEXT: dict[TaskStatus, frozenset[TaskStatus]] = {
    "pending": frozenset({"processing", "cancelled"}),
    "processing": frozenset({"pending", "completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset({"pending"}),
    "cancelled": frozenset({"pending"}),
}
_ACTIVE = running | and_(waiting, tasks.c.queued_at.is_not(None))


def _legal(befores: Collection[TaskStatus], after: TaskStatus) -> None:
    assert all(after in _NEXT[status] for status in befores), f"{befores} → {after}"


# What each task goes through is made ready once: to put a statement together takes longer than to run it.
_START = (
    update(tasks)
    .where(
        tasks.c.status == "pending",
        tasks.c.id.in_(bindparam("task_ids", expanding=True)),
        tasks.c.queued_at.is_not(None),
    )
    .values(
        status="processing",
        worker=bindparam("by_worker"),
        lease_until=bindparam("until"),
        attempts=tasks.c.attempts + 1,
        started_at=func.coalesce(tasks.c.started_at, bindparam("at", type_=BigInteger)),
    )
    .returning(*tasks.c)
)
_END = (
    update(tasks)
    .where(
        tasks.c.status.in_(bindparam("befores", expanding=True)),
        tasks.c.id == bindparam("of_id"),
        tasks.c.round == bindparam("of_round"),
        tasks.c.attempts == bindparam("of_attempts"),
        tasks.c.worker.is_not_distinct_from(bindparam("of_worker")),
    )
    .values(
        status=bindparam("after"),
        results=bindparam("made"),
        completed=bindparam("done"),
        progress=func.coalesce(bindparam("percent", type_=Integer), tasks.c.progress),
        error=bindparam("reason"),
        error_code=bindparam("code"),
        completed_at=bindparam("at"),
        own_key=None,
        worker=None,
        lease_until=None,
    )
    .returning(*tasks.c)
)
_taken = (
    select(func.count())
    .select_from(tasks)
    .where(tasks.c.user_id == bindparam("of_user"), _ACTIVE)
    .correlate(None)
    .scalar_subquery()
)
_left = bindparam("share", type_=Integer) - _taken
_PROMOTE = (
    update(tasks)
    .where(
        tasks.c.id.in_(
            select(tasks.c.id)
            .where(waiting, tasks.c.user_id == bindparam("of_user"), tasks.c.queued_at.is_(None))
            .order_by(tasks.c.created_at, tasks.c.id)
            .limit(case((_left > 0, _left), else_=0))
        )
    )
    .values(queued_at=bindparam("at"))
    .returning(*tasks.c)
)


def create(connection: Connection, task: Task, share: int) -> Task:
    """Enter a new task; it may run at once while its user has fewer than `share` that do."""
    _take_turn(connection, task.user_id)
    queued_at = task.created_at if _room(connection, task.user_id, share) > 0 else None
    task = replace(task, queued_at=queued_at)
    if task.reservation is not None:
        TaskQuota.hold(connection, task.reservation)
    add_task(connection, task)
    return task


def start(connection: Connection, task_ids: Collection[str], worker: str, now: Milliseconds) -> list[Task]:
    """Those of these that waited, which are this worker's now."""
    values = {"task_ids": sorted(task_ids), "by_worker": worker, "at": now, "until": now + LEASE_MS}
    return [task_of(row) for row in connection.execute(_START, values)]


def renew(
    connection: Connection, task_ids: Collection[str], worker: str, now: Milliseconds
) -> dict[str, tuple[int, bool]]:
    """Keep what this worker runs: `attempts` of each task that is still its own, and whether it is to be cancelled.

    Those of its rows that it does not run any more are not among `task_ids`: their lease has to run out.
    """
    mine = and_(running, tasks.c.worker == worker, tasks.c.id.in_(task_ids))
    rows = connection.execute(
        update(tasks)
        .where(mine)
        .values(lease_until=now + LEASE_MS)
        .returning(tasks.c.id, tasks.c.attempts, tasks.c.cancel_requested_at)
    )
    return {task_id: (attempts, cancelled_at is not None) for task_id, attempts, cancelled_at in rows}


def deliver(connection: Connection, task: Task, results: tuple[ItemResult, ...], progress: int) -> bool:
    """What is done so far; no change of state. False: the task is not this worker's any more."""
    completed = sum(result.is_done for result in results)
    changed = connection.execute(
        update(tasks)
        .where(_of_this_start(task))
        .values(results=packed(results), completed=completed, progress=progress)
        .returning(tasks.c.id)
    )
    return changed.one_or_none() is not None


def request_cancel(connection: Connection, task_id: str, now: Milliseconds) -> bool:
    """Whether it runs, so that its worker has to stop it; no change of state yet."""
    asked = func.coalesce(tasks.c.cancel_requested_at, now)
    changed = connection.execute(
        update(tasks).where(tasks.c.id == task_id, running).values(cancel_requested_at=asked).returning(tasks.c.id)
    )
    return changed.one_or_none() is not None


def end(
    connection: Connection, task: Task, ending: Ending, now: Milliseconds, share: int
) -> tuple[Task, list[Task]] | None:
    """End a round of a task from the start that `task` is of, and let the next ones of its user run.

    Answers it and those; with it goes what it held, and the own key that came with it. Its webhook is due now.
    """
    _take_turn(connection, task.user_id)
    befores: list[TaskStatus] = ["pending", "processing"] if ending.status == "cancelled" else ["processing"]
    _legal(befores, ending.status)
    values = {
        "befores": befores,
        "after": ending.status,
        "made": packed(ending.results),
        "done": sum(result.is_done for result in ending.results),
        "percent": 100 if ending.status == "completed" else None,
        "reason": None if ending.error is None else packed(ending.error),
        "code": code_of(ending.error),
        "at": now,
        "of_id": task.id,
        "of_round": task.round,
        "of_attempts": task.attempts,
        "of_worker": task.worker,
    }
    row = connection.execute(_END, values).one_or_none()
    ended = None if row is None else task_of(row)
    if ended is None:
        return None
    if ended.reservation is not None:
        TaskQuota.end(connection, ended.reservation, ending.dropped)
    if ended.callback_url is not None:
        WebhookService.announce(connection, ended.id, ended.round, ended.user_id, ended.callback_url, now)
    return ended, promote(connection, ended.user_id, now, share)


def take_over(connection: Connection, task: Task, worker: str, now: Milliseconds) -> Task | None:
    """From a worker that let its lease run out; no change of state. Whoever does this then decides what is next."""
    row = connection.execute(
        update(tasks)
        .where(_of_this_start(task), tasks.c.lease_until == task.lease_until)
        .values(worker=worker, lease_until=now + LEASE_MS, deaths=tasks.c.deaths + 1)
        .returning(*tasks.c)
    ).one_or_none()
    return None if row is None else task_of(row)


def hand_back(connection: Connection, task: Task, now: Milliseconds) -> Task | None:
    """To whichever worker comes next."""
    return _change(
        connection,
        ("processing",),
        "pending",
        _as_read(task),
        worker=None,
        lease_until=None,
        # A ticket of its own: what the queue still knows of the one before must not stand in the way.
        queued_at=now,
    )


def retry(
    connection: Connection,
    task: Task,
    reservation: Reservation | None,
    own_key: str | None,
    now: Milliseconds,
    share: int,
) -> Task | None:
    """A new round, of what is missing."""
    _take_turn(connection, task.user_id)
    kept = tuple(result for result in task.results if result.is_done)
    changed = _change(
        connection,
        ("failed", "cancelled"),
        "pending",
        and_(tasks.c.id == task.id, tasks.c.round == task.round, tasks.c.closed_at.is_not(None)),
        results=packed(kept),
        round=tasks.c.round + 1,
        deaths=0,
        error=None,
        error_code=None,
        own_key=own_key,
        reservation=None if reservation is None else packed(reservation),
        cancel_requested_at=None,
        queued_at=now if _room(connection, task.user_id, share) > 0 else None,
        started_at=None,
        completed_at=None,
        closed_at=None,
    )
    if changed is None:
        return None
    if reservation is not None:
        TaskQuota.hold(connection, reservation)
    WebhookService.supersede(connection, task.id)
    return changed


def promote(connection: Connection, user_id: str, now: Milliseconds, share: int) -> list[Task]:
    """Let as many of a user's waiting tasks run as there is room for, the oldest first."""
    _take_turn(connection, user_id)
    rows = connection.execute(_PROMOTE, {"of_user": user_id, "at": now, "share": share})
    return [task_of(row) for row in rows]


def requeue(connection: Connection, task: Task, now: Milliseconds) -> Task | None:
    """A new ticket for a task whose old one is lost; no change of state."""
    row = connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id, waiting, tasks.c.queued_at == task.queued_at)
        .values(queued_at=now)
        .returning(*tasks.c)
    ).one_or_none()
    return None if row is None else task_of(row)


def _change(
    connection: Connection, before: tuple[TaskStatus, ...], after: TaskStatus, where: Any, **values: Any
) -> Task | None:
    _legal(before, after)
    row = connection.execute(
        update(tasks).where(tasks.c.status.in_(before), where).values(status=after, **values).returning(*tasks.c)
    ).one_or_none()
    return None if row is None else task_of(row)


def _of_this_start(task: Task) -> Any:
    return and_(running, _as_read(task))


def _as_read(task: Task) -> Any:
    """No other worker has had it since."""
    return and_(
        tasks.c.id == task.id,
        tasks.c.round == task.round,
        tasks.c.attempts == task.attempts,
        tasks.c.worker.is_not_distinct_from(task.worker),
    )


def _take_turn(connection: Connection, user_id: str) -> None:
    take_turn(connection, f"tasks:{user_id}")


def _room(connection: Connection, user_id: str, share: int) -> int:
    taken = connection.execute(
        select(func.count()).select_from(tasks).where(tasks.c.user_id == user_id, _ACTIVE)
    ).scalar_one()
    return share - taken
