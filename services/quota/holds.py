"""What tasks hold, durably: a task may wait for longer than Redis is to be trusted with its points.

A hold stands from the transaction that accepts a task to the one that ends it. While it stands the images of the task
can be charged to it, and not after.
"""

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, delete, func, insert, select

from core.clients.database import metadata, take_turn
from services.quota.errors import HoldGone
from services.quota.models import QuotaIdentity, Reservation

holds = Table(
    "quota_holds",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("guest_address", String),
    Column("mode", String, nullable=False),
    Column("points", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("day", String, nullable=False, index=True),
    Column("made_at", BigInteger, nullable=False),
    Column("service_key_id", String),
)
# Reservations whose calls were dropped after they had been sent, and given back all the same.
dropped_calls = Table(
    "dropped_calls",
    metadata,
    Column("reservation_id", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("day", String, nullable=False),
    Index("ix_dropped_calls_user_id_day", "user_id", "day"),
)


def add_hold(connection: Connection, reservation: Reservation) -> None:
    """An IntegrityError means that it stands already."""
    identity = reservation.identity
    connection.execute(
        insert(holds),
        {
            "id": reservation.id,
            "user_id": identity.user_id,
            "guest_address": identity.guest_address,
            "mode": reservation.mode,
            "points": reservation.points,
            "count": reservation.count,
            "day": reservation.day,
            "made_at": reservation.made_at,
            "service_key_id": identity.service_key_id,
        },
    )


def remove_hold(connection: Connection, reservation_id: str) -> None:
    connection.execute(delete(holds).where(holds.c.id == reservation_id))


def check_hold(connection: Connection, reservation_id: str) -> None:
    """Raises HoldGone; else nobody ends the hold until this transaction is over."""
    found = select(holds.c.id).where(holds.c.id == reservation_id).with_for_update(read=True)
    if connection.execute(found).one_or_none() is None:
        raise HoldGone(reservation_id)


def is_held(connection: Connection, reservation_id: str) -> bool:
    return connection.execute(select(holds.c.id).where(holds.c.id == reservation_id)).one_or_none() is not None


def held(connection: Connection, day: str | None = None) -> list[Reservation]:
    """All holds, or those of one day."""
    asked = select(holds) if day is None else select(holds).where(holds.c.day == day)
    return [
        Reservation(
            id=row.id,
            identity=QuotaIdentity(row.user_id, row.guest_address, row.service_key_id),
            mode=row.mode,
            points=row.points,
            count=row._mapping["count"],  # a row is a tuple, which has a count of its own
            day=row.day,
            made_at=row.made_at,
        )
        for row in connection.execute(asked)
    ]


def give_back_dropped(connection: Connection, reservation: Reservation, day: str, most: int) -> bool:
    """Whether calls that were sent and dropped are given back once more on this day, of which it takes note."""
    user_id = reservation.identity.user_id
    take_turn(connection, f"dropped_calls:{user_id}")
    given_back = connection.execute(
        select(func.count())
        .select_from(dropped_calls)
        .where(dropped_calls.c.user_id == user_id, dropped_calls.c.day == day)
    ).scalar_one()
    if given_back >= most:
        return False
    connection.execute(insert(dropped_calls), {"reservation_id": reservation.id, "user_id": user_id, "day": day})
    return True


def forget_user(connection: Connection, user_id: str) -> None:
    connection.execute(delete(dropped_calls).where(dropped_calls.c.user_id == user_id))
