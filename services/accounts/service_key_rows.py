"""The table of service keys."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    RowMapping,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from core.clients.database import metadata
from core.clock import Milliseconds
from services.accounts.models import Role, ServiceKey
from services.accounts.users import users

service_keys = Table(
    "service_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("user_id", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("last_characters", String, nullable=False),
    Column("hash", String, nullable=False, unique=True),
    Column("scopes", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("daily_points", Integer),
    Column("last_used_at", BigInteger),
)

_FIELDS = [service_keys.c[name] for name in ServiceKey.__dataclass_fields__]


@dataclass(frozen=True)
class Owner:
    """Whom a key speaks for, as far as a call needs to know."""

    role: Role
    folder_id: str
    blocked_at: Milliseconds | None


def add_key(connection: Connection, key: ServiceKey, key_hash: str) -> None:
    connection.execute(insert(service_keys), asdict(key) | {"scopes": " ".join(key.scopes), "hash": key_hash})


def count_keys(connection: Connection, user_id: str) -> int:
    mine = service_keys.c.user_id == user_id
    return connection.execute(select(func.count()).select_from(service_keys).where(mine)).scalar_one()


def keys_of(connection: Connection, user_id: str) -> Sequence[ServiceKey]:
    """The newest first."""
    rows = connection.execute(
        select(*_FIELDS)
        .where(service_keys.c.user_id == user_id)
        .order_by(service_keys.c.created_at.desc(), service_keys.c.id.desc())
    )
    return [_key(row) for row in rows.mappings()]


def find_key(connection: Connection, key_hash: str) -> tuple[ServiceKey, Owner] | None:
    """None also for a key whose owner has left."""
    row = connection.execute(
        select(*_FIELDS, users.c.role, users.c.folder_id, users.c.blocked_at)
        .join_from(service_keys, users, users.c.id == service_keys.c.user_id)
        .where(service_keys.c.hash == key_hash, users.c.left_at.is_(None))
    ).one_or_none()
    return None if row is None else (_key(row._mapping), Owner(row.role, row.folder_id, row.blocked_at))


def note_use(connection: Connection, key_id: str, now: Milliseconds) -> None:
    connection.execute(update(service_keys).where(service_keys.c.id == key_id).values(last_used_at=now))


def remove_key(connection: Connection, user_id: str, key_id: str) -> bool:
    """False when this user has no such key."""
    mine = (service_keys.c.id == key_id) & (service_keys.c.user_id == user_id)
    return connection.execute(delete(service_keys).where(mine)).rowcount > 0


def remove_keys(connection: Connection, user_id: str) -> None:
    connection.execute(delete(service_keys).where(service_keys.c.user_id == user_id))


def _key(row: RowMapping) -> ServiceKey:
    fields = {name: row[name] for name in ServiceKey.__dataclass_fields__}
    return ServiceKey(**fields | {"scopes": tuple(row["scopes"].split())})
