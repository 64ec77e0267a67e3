"""Guests: people who try without an account."""

from core.clients.database import Database
from core.clock import now_ms
from core.errors import Forbidden
from core.ids import new_id
from services.accounts.models import Tokens, User, Visitor, local_folder_id
from services.accounts.service import AccountService
from services.accounts.users import add_user


class GuestSignIn:
    """`enabled`: GUEST_ENABLED."""

    def __init__(self, accounts: AccountService, database: Database, *, enabled: bool) -> None:
        self._accounts = accounts
        self._database = database
        self.enabled = enabled

    async def sign_in(self, visitor: Visitor) -> Tokens:
        """Make a guest and sign them in. Raises Forbidden where the operator wants no guests."""
        if not self.enabled:
            raise Forbidden("guests_disabled")
        user_id = new_id("usr")
        user = User(id=user_id, role="guest", folder_id=local_folder_id(user_id), created_at=now_ms())
        await self._database.write(lambda connection: add_user(connection, user))
        return await self._accounts.welcome(user, visitor)
