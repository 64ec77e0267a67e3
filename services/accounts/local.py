"""Accounts with e-mail and password, for whoever has no GitHub or runs this alone."""

from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from core.clients.database import Database, take_turn
from core.clock import now_ms
from core.errors import DependencyUnavailable, FieldProblem, Forbidden, Unauthorized, ValidationFailed
from core.ids import new_id
from core.logging import get_logger
from core.security import SetupToken, write_private
from core.text import fold
from services.accounts.models import Tokens, User, Visitor, local_folder_id
from services.accounts.passwords import Passwords
from services.accounts.service import AccountService
from services.accounts.users import add_user, find_by_email, milestone_reached, reach_milestone

FIRST_ADMIN = "first_local_admin"

log = get_logger(__name__)


class LocalAccounts:
    """`enabled`: LOCAL_AUTH_ENABLED. `token_file`: where the start finds the set-up token that it prints."""

    def __init__(
        self,
        accounts: AccountService,
        database: Database,
        passwords: Passwords,
        setup_token: SetupToken,
        token_file: Path,
        *,
        enabled: bool,
    ) -> None:
        self._accounts = accounts
        self._database = database
        self._passwords = passwords
        self._setup_token = setup_token
        self._token_file = token_file
        self.enabled = enabled

    async def offer_setup_token(self) -> None:
        """Lay the set-up token out for whoever starts this, until it has made its admin.

        Not while the database is away: it must not keep a process from answering that it is.
        """
        try:
            used = await self._database.read(lambda connection: milestone_reached(connection, FIRST_ADMIN))
        except DependencyUnavailable as error:
            log.warning("nothing known of the set-up token", reason=str(error))
            return
        if not self.enabled or used:
            self._token_file.unlink(missing_ok=True)
            return
        write_private(self._token_file, self._setup_token.show())

    async def register(
        self, email: str, password: SecretStr, name: str | None, setup_token: str | None, visitor: Visitor
    ) -> Tokens:
        """Make an account and sign it in. Raises ValidationFailed for an e-mail that is taken, Forbidden for a set-up
        token that is wrong or was used.
        """
        self._check_enabled()
        if setup_token is not None and not self._setup_token.verify(setup_token):
            raise Forbidden("setup_token_refused")
        password_hash = await self._passwords.hash(password)
        is_admin, user_id = setup_token is not None, new_id("usr")
        user = User(
            id=user_id,
            role="admin" if is_admin else "user",
            folder_id=local_folder_id(user_id),
            created_at=now_ms(),
            name=name,
            email=email,
            is_granted_admin=is_admin,
        )
        try:
            await self._database.write(lambda connection: _add(connection, user, password_hash))
        except IntegrityError as error:
            raise _taken() from error
        if is_admin:
            log.info("the set-up token has made its admin", user_id=user.id)
            self._token_file.unlink(missing_ok=True)
        return await self._accounts.welcome(user, visitor)

    async def sign_in(self, email: str, password: SecretStr, visitor: Visitor) -> Tokens:
        """Raises Unauthorized, alike and after the same work for a wrong password and an unknown e-mail."""
        self._check_enabled()
        found = await self._database.read(lambda connection: find_by_email(connection, folded(email)))
        user, known = found if found is not None else (None, None)
        if not await self._passwords.verify(password, known) or user is None:
            raise Unauthorized("wrong_credentials")
        return await self._accounts.welcome(user, visitor)

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Forbidden("local_disabled")


def folded(email: str) -> str:
    """One spelling of an address, by which the account is known."""
    return fold(email).strip()


def _add(connection: Connection, user: User, password_hash: str) -> None:
    email = folded(user.email or "")
    if find_by_email(connection, email) is not None:
        raise _taken()
    if user.is_granted_admin:
        take_turn(connection, FIRST_ADMIN)
        if milestone_reached(connection, FIRST_ADMIN):
            raise Forbidden("setup_token_refused")
        reach_milestone(connection, FIRST_ADMIN, user.created_at)
    add_user(connection, user, sign_in_email=email, password_hash=password_hash)


def _taken() -> ValidationFailed:
    return ValidationFailed([FieldProblem("email", "taken")])
