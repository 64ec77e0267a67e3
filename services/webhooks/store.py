"""The table of webhooks that are on their way, and what became of each.

A try is claimed for a while by whoever makes it, so that no two workers ever make one at once; a claim that has run out
is of a worker that died.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from services.webhooks.models import Attempt, Delivery, DeliveryState
from services.webhooks.shares import Full

# What somebody needs who looks why nothing arrives; a schedule has ten tries.
KEPT_ATTEMPTS = 20

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String, primary_key=True),
    Column("task_id", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("user_id", String, nullable=False),
    Column("host", String, nullable=False),
    Column("state", String, nullable=False),
    Column("next_try_at", BigInteger),
    Column("first_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("attempts", Text, nullable=False),
    Column("claim", String),
    Column("lease_until", BigInteger),
)
# The condition of a partial index; PostgreSQL's stands in the migration.
_to_try = deliveries.c.next_try_at.is_not(None)
Index("ix_webhook_deliveries_to_try", deliveries.c.next_try_at, sqlite_where=_to_try)
Index("ix_webhook_deliveries_task_id_round", deliveries.c.task_id, deliveries.c.round)
Index("ix_webhook_deliveries_user_id", deliveries.c.user_id)


def add(connection: Connection, delivery: Delivery) -> None:
    connection.execute(insert(deliveries), _row_of(delivery))


def of_task(connection: Connection, task_id: str, limit: int) -> list[Delivery]:
    """Of its last rounds, the newest first."""
    newest_first = deliveries.c.round.desc()
    rows = connection.execute(
        select(deliveries).where(deliveries.c.task_id == task_id).order_by(newest_first).limit(limit)
    )
    return [_delivery(row) for row in rows]


def due(connection: Connection, now: Milliseconds, full: Full, limit: int) -> list[Delivery]:
    """What is to be tried now and has a place, the longest due first."""
    wanted = [_is_due(now), deliveries.c.user_id.not_in(full.users), deliveries.c.host.not_in(full.hosts)]
    if full.pairs:
        wanted.append(tuple_(deliveries.c.user_id, deliveries.c.host).not_in(full.pairs))
    rows = connection.execute(
        select(deliveries).where(*wanted).order_by(deliveries.c.next_try_at, deliveries.c.id).limit(limit)
    )
    return [_delivery(row) for row in rows]


def claim(
    connection: Connection, seen: Delivery, name: str, now: Milliseconds, lease_until: Milliseconds
) -> Delivery | None:
    """Take the next try of a delivery that was seen to be due. None: somebody else has it, or it is off."""
    row = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == seen.id, deliveries.c.next_try_at == seen.next_try_at, _is_due(now))
        .values(claim=name, lease_until=lease_until, tries=deliveries.c.tries + 1)
        .returning(*deliveries.c)
    ).one_or_none()
    return None if row is None else _delivery(row)


def record(
    connection: Connection, claimed: Delivery, attempt: Attempt, state: DeliveryState, next_try_at: Milliseconds | None
) -> DeliveryState | None:
    """Write down what came of a claimed try, and answer how the delivery stands then. None: it is another's, or gone.

    Who has asked meanwhile that it be sent again, or has superseded it, is not overruled.
    """
    row = connection.execute(_mine(claimed).with_for_update()).one_or_none()
    if row is None:
        return None
    stands = _delivery(row)
    after = replace(stands, attempts=(*stands.attempts, attempt)[-KEPT_ATTEMPTS:], claim=None, lease_until=None)
    if stands.next_try_at == claimed.next_try_at:
        first_at = attempt.at if stands.first_at is None else stands.first_at
        after = replace(after, state=state, next_try_at=next_try_at, first_at=first_at)
    connection.execute(update(deliveries).where(deliveries.c.id == after.id).values(_row_of(after)))
    return after.state


def let_go(connection: Connection, claimed: Collection[Delivery]) -> None:
    """Of tries that are not made after all, or were broken off: whoever comes next makes them."""
    for delivery in claimed:
        connection.execute(
            update(deliveries)
            .where(deliveries.c.id == delivery.id, deliveries.c.claim == delivery.claim)
            .values(claim=None, lease_until=None)
        )


def send_again(connection: Connection, delivery_id: str, now: Milliseconds) -> bool:
    """Begin its schedule anew, at once; the same message. False: it is superseded or gone."""
    changed = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id, deliveries.c.state != "superseded")
        .values(state="pending", next_try_at=now, first_at=None)
        .returning(deliveries.c.id)
    )
    return changed.one_or_none() is not None


def supersede(connection: Connection, task_id: str) -> None:
    connection.execute(
        update(deliveries).where(deliveries.c.task_id == task_id).values(state="superseded", next_try_at=None)
    )


def forget(connection: Connection, task_id: str) -> None:
    connection.execute(delete(deliveries).where(deliveries.c.task_id == task_id))


def hand_over(connection: Connection, user_id: str, heir: str) -> None:
    connection.execute(update(deliveries).where(deliveries.c.user_id == user_id).values(user_id=heir))


def _is_due(now: Milliseconds) -> Any:
    unclaimed = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
    return and_(_to_try, deliveries.c.next_try_at <= now, unclaimed)


def _mine(claimed: Delivery) -> Any:
    return select(deliveries).where(deliveries.c.id == claimed.id, deliveries.c.claim == claimed.claim)


def _row_of(delivery: Delivery) -> dict[str, Any]:
    return {**vars(delivery), "attempts": orjson.dumps(delivery.attempts).decode()}


def _delivery(row: Row[Any]) -> Delivery:
    values = dict(row._mapping)
    values["attempts"] = tuple(Attempt(**given) for given in orjson.loads(values["attempts"]))
    return Delivery(**values)
