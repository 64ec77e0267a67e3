"""The table of users, and what is written beside it when they come and go."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Row,
    String,
    Table,
    and_,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from core.clients.database import metadata, take_turn
from core.clock import Milliseconds
from services.accounts.models import User, UserFilter

users = Table(
    "users",
    metadata,
    Column("id", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("folder_id", String, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("login", String),
    Column("name", String),
    Column("email", String),
    Column("avatar_url", String),
    Column("github_id", BigInteger),
    Column("sign_in_email", String),
    Column("password_hash", String),
    Column("is_granted_admin", Boolean, nullable=False, server_default=false()),
    Column("blocked_at", BigInteger),
    Column("left_at", BigInteger, index=True),
    Column("merged_into", String),
    Index("uq_users_github_id", "github_id", unique=True),
    Index("uq_users_sign_in_email", "sign_in_email", unique=True),
    Index("ix_users_created_at", "created_at", "id"),
)
admin_logins = Table(
    "admin_logins",
    metadata,
    Column("login", String, primary_key=True),
    Column("github_id", BigInteger, nullable=False),
)
milestones = Table(
    "milestones",
    metadata,
    Column("name", String, primary_key=True),
    Column("reached_at", BigInteger, nullable=False),
)

_FIELDS = [users.c[name] for name in User.__dataclass_fields__]
_INSERT = insert(users)
_HERE = users.c.left_at.is_(None)
# What stands of somebody who has left: an id, for what of theirs may still be under way.
_WIPED = dict.fromkeys(("login", "name", "email", "avatar_url", "github_id", "sign_in_email", "password_hash"))
ESCAPE = "\\"


@dataclass(frozen=True)
class Departure:
    """Somebody who has left; `merged_into` is the account that keeps what they made."""

    user_id: str
    left_at: Milliseconds
    merged_into: str | None


def add_user(
    connection: Connection, user: User, *, sign_in_email: str | None = None, password_hash: str | None = None
) -> None:
    """An IntegrityError means that the e-mail or the GitHub account is another user's."""
    connection.execute(_INSERT, asdict(user) | {"sign_in_email": sign_in_email, "password_hash": password_hash})


def get_user(connection: Connection, user_id: str, *, locked: bool = False) -> User | None:
    """None for one who has left. `locked`: stays as it is until this transaction ends."""
    return _one(connection, users.c.id == user_id, locked)


def find_by_github(connection: Connection, github_id: int) -> User | None:
    """Locked until this transaction ends."""
    return _one(connection, users.c.github_id == github_id, locked=True)


def find_owner(connection: Connection, user_id: str | None, folder_id: str) -> str | None:
    """The account of this id, also of one who has left and is not forgotten yet; else that of this folder."""
    either = or_(users.c.id == user_id, users.c.folder_id == folder_id)
    found = connection.execute(select(users.c.id).where(either)).scalars().all()
    return user_id if user_id in found else next(iter(found), None)


def find_folder(connection: Connection, login: str) -> str | None:
    """The folder of whoever signed in with this GitHub login, in any case; None also where two did, since logins can be
    given up and taken.
    """
    theirs = and_(func.lower(users.c.login) == login.lower(), users.c.github_id.is_not(None), _HERE)
    found = connection.execute(select(users.c.folder_id).where(theirs).limit(2)).scalars().all()
    return found[0] if len(found) == 1 else None


def take_folder_turn(connection: Connection, folder_id: str) -> None:
    """Before an account is made that others may make too because its folder is known."""
    take_turn(connection, f"account of folder {folder_id}")


def claim_folder(connection: Connection, folder_id: str, github_id: int) -> User | None:
    """The account that was made for a folder while nobody could sign in to it is this GitHub account's now."""
    take_folder_turn(connection, folder_id)
    nobodys = and_(users.c.role == "user", users.c.github_id.is_(None), users.c.sign_in_email.is_(None), _HERE)
    claiming = update(users).where(users.c.folder_id == folder_id, nobodys).values(github_id=github_id)
    return find_by_github(connection, github_id) if connection.execute(claiming).rowcount else None


def find_by_email(connection: Connection, sign_in_email: str) -> tuple[User, str] | None:
    """A local account and the hash of its password."""
    row = connection.execute(
        select(*_FIELDS, users.c.password_hash).where(users.c.sign_in_email == sign_in_email, _HERE)
    ).one_or_none()
    if row is None:
        return None
    *fields, password_hash = row
    return User(*fields), password_hash


def change_user(connection: Connection, user_id: str, **values: Any) -> bool:
    """False when there is no such user, or not any more."""
    return connection.execute(update(users).where(users.c.id == user_id, _HERE).values(**values)).rowcount > 0


def search_users(connection: Connection, where: UserFilter, limit: int, offset: int) -> tuple[list[User], int]:
    """A page, the newest first, and the exact total."""
    condition = and_(_HERE, *_conditions(where))
    rows = connection.execute(
        select(*_FIELDS)
        .where(condition)
        .order_by(users.c.created_at.desc(), users.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    total = connection.execute(select(func.count()).select_from(users).where(condition)).scalar_one()
    return [_user(row) for row in rows], total


def pin_admin_login(connection: Connection, login: str, github_id: int) -> None:
    """A login that ADMIN_LOGINS names belongs for ever to the first GitHub account that signs in with it."""
    take_turn(connection, f"admin login {login}")
    taken = connection.execute(select(admin_logins.c.login).where(admin_logins.c.login == login)).one_or_none()
    if taken is None:
        connection.execute(insert(admin_logins), {"login": login, "github_id": github_id})


def pinned_logins(connection: Connection, github_id: int) -> Sequence[str]:
    return connection.execute(select(admin_logins.c.login).where(admin_logins.c.github_id == github_id)).scalars().all()


def reach_milestone(connection: Connection, name: str, now: Milliseconds) -> None:
    """An IntegrityError means that it was reached before."""
    connection.execute(insert(milestones), {"name": name, "reached_at": now})


def milestone_reached(connection: Connection, name: str) -> bool:
    return connection.execute(select(milestones.c.name).where(milestones.c.name == name)).one_or_none() is not None


def set_left(connection: Connection, user_id: str, now: Milliseconds, *, merged_into: str | None = None) -> bool:
    """Wipe all that tells who it was. False when there is no such user, or not any more."""
    # The folder is free again for a new account of the same person; images know their own.
    wiped = _WIPED | {"left_at": now, "merged_into": merged_into, "folder_id": user_id, "is_granted_admin": False}
    return change_user(connection, user_id, **wiped)


def departures(connection: Connection) -> list[Departure]:
    """Who has left and is not forgotten yet, the first first."""
    rows = connection.execute(
        select(users.c.id, users.c.left_at, users.c.merged_into)
        .where(users.c.left_at.is_not(None))
        .order_by(users.c.left_at)
    )
    return [Departure(*row) for row in rows]


def merged_into(connection: Connection, user_id: str) -> frozenset[str]:
    """Who has left, is not forgotten yet, and is this account now."""
    theirs = and_(users.c.left_at.is_not(None), users.c.merged_into == user_id)
    return frozenset(connection.execute(select(users.c.id).where(theirs)).scalars())


def remove_departed(connection: Connection, user_id: str) -> None:
    connection.execute(delete(users).where(users.c.id == user_id, users.c.left_at.is_not(None)))


def _conditions(where: UserFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if where.search is not None:
        columns = (users.c.login, users.c.name, users.c.email, users.c.id)
        # SQLite knows upper and lower case of ASCII letters alone: to it Á is another letter than á.
        text = where.search
        spellings = dict.fromkeys(_literal(spelling) for spelling in (text, text.lower(), text.upper(), text.title()))
        found.append(
            or_(*(column.ilike(f"%{spelling}%", escape=ESCAPE) for column in columns for spelling in spellings))
        )
    if where.role is not None:
        found.append(users.c.role == where.role)
    if where.blocked is not None:
        found.append(users.c.blocked_at.is_not(None) if where.blocked else users.c.blocked_at.is_(None))
    return found


def _literal(text: str) -> str:
    return "".join(ESCAPE + letter if letter in "%_\\" else letter for letter in text)


def _one(connection: Connection, condition: ColumnElement[bool], locked: bool) -> User | None:
    statement = select(*_FIELDS).where(condition, _HERE)
    row = connection.execute(statement.with_for_update() if locked else statement).one_or_none()
    return None if row is None else _user(row)


def _user(row: Row[Any]) -> User:
    return User(**row._mapping)
