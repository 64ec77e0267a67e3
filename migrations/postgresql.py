"""What migrations do with PostgreSQL; imported only where DATABASE_URL is set."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from core.clients.postgresql import Patience, make_engine, told
from migrations.head import DatabaseUnusable

Result = TypeVar("Result")


def run(url: str, work: Callable[[Connection], Result]) -> Result:
    """Run `work` in one transaction on a connection of its own. Raises DatabaseUnusable."""
    return asyncio.run(_run(url, work))


async def _run(url: str, work: Callable[[Connection], Result]) -> Result:
    engine = make_engine(url, Patience(statement=0), poolclass=NullPool)

    def whole() -> Result:
        with engine.begin() as connection:
            return work(connection)

    try:
        return await greenlet_spawn(whole)
    except (OSError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnusable(told(error)) from None
