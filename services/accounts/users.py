"""The table of users."""

from dataclasses import asdict

from sqlalchemy import BigInteger, Column, Connection, String, Table, insert, select

from core.clients.database import metadata
from services.accounts.models import User

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
)

_INSERT = insert(users)


def add_user(connection: Connection, user: User) -> None:
    connection.execute(_INSERT, asdict(user))


def get_user(connection: Connection, user_id: str) -> User | None:
    row = connection.execute(select(users).where(users.c.id == user_id)).one_or_none()
    return None if row is None else User(**row._mapping)
