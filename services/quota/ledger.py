"""The charge ledger: one row an image that was delivered on the operator's key. Never changed, only added to, but for
the names of those who have left.
"""

from collections.abc import Collection

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, func, insert, select, update

from core.clients.database import metadata
from core.clock import Milliseconds
from services.quota.models import FORGOTTEN_USER, LedgerTotals, Reservation

charges = Table(
    "charges",
    metadata,
    Column("image_id", String, primary_key=True),
    Column("reservation_id", String, nullable=False, index=True),
    Column("user_id", String, nullable=False, index=True),
    Column("guest_address", String),
    Column("mode", String, nullable=False),
    Column("points", Integer, nullable=False),
    Column("day", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("service_key_id", String),
    Index("ix_charges_day_user_id", "day", "user_id"),
)


def add_charge(connection: Connection, image_id: str, reservation: Reservation, now: Milliseconds) -> None:
    """Charge one image of a reservation. An image is charged once: a second row for it is an IntegrityError."""
    identity = reservation.identity
    connection.execute(
        insert(charges),
        {
            "image_id": image_id,
            "reservation_id": reservation.id,
            "user_id": identity.user_id,
            "guest_address": identity.guest_address,
            "mode": reservation.mode,
            "points": reservation.points // reservation.count,
            "day": reservation.day,
            "created_at": now,
            "service_key_id": identity.service_key_id,
        },
    )


def day_totals(connection: Connection, day: str) -> LedgerTotals:
    rows = connection.execute(
        select(
            charges.c.user_id,
            charges.c.mode,
            charges.c.guest_address,
            charges.c.service_key_id,
            func.count().label("images"),
            func.sum(charges.c.points).label("points"),
        )
        .where(charges.c.day == day)
        .group_by(charges.c.user_id, charges.c.mode, charges.c.guest_address, charges.c.service_key_id)
    )
    pool, by_user_mode = 0, dict[tuple[str, str], int]()
    by_address, by_key = dict[str, int](), dict[str, int]()
    for user_id, mode, address, key_id, images, points in rows:
        pool += points
        by_user_mode[user_id, mode] = by_user_mode.get((user_id, mode), 0) + images
        if address:
            by_address[address] = by_address.get(address, 0) + points
        if key_id:
            by_key[key_id] = by_key.get(key_id, 0) + points
    return LedgerTotals(pool, by_user_mode, by_address, by_key)


def day_charges(connection: Connection, day: str) -> dict[str, int]:
    """How many images of each reservation of a day were charged; those with none are left out."""
    rows = connection.execute(
        select(charges.c.reservation_id, func.count()).where(charges.c.day == day).group_by(charges.c.reservation_id)
    )
    return {row[0]: row[1] for row in rows}


def charged_images(connection: Connection, reservation_id: str) -> int:
    return connection.execute(
        select(func.count()).select_from(charges).where(charges.c.reservation_id == reservation_id)
    ).scalar_one()


def charged_among(connection: Connection, image_ids: Collection[str]) -> set[str]:
    return set(connection.execute(select(charges.c.image_id).where(charges.c.image_id.in_(image_ids))).scalars())


def forget_user(connection: Connection, user_id: str) -> None:
    """The points of a day still add up; whose they were cannot be told any more."""
    nobodys = {"user_id": FORGOTTEN_USER, "service_key_id": None}
    connection.execute(update(charges).where(charges.c.user_id == user_id).values(**nobodys))
