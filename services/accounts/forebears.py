"""Whom somebody was before: guests who have signed in, while something of theirs is still under way."""

from core.clients.database import Database
from services.accounts.users import merged_into


class Forebears:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, user_id: str) -> frozenset[str]:
        """The ids of guests whose heir this account is, until all that they had begun is over."""
        return await self._database.read(lambda connection: merged_into(connection, user_id))
