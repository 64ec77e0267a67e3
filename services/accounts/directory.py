"""What admins do with accounts: find them, keep them out, make others admins."""

from dataclasses import dataclass

from sqlalchemy import Connection

from core.clients.database import Database
from core.clock import now_ms
from core.errors import FieldProblem, NotFound, ValidationFailed
from core.logging import get_logger
from core.paging import Page
from services.accounts.models import Caller, Role, User, UserFilter
from services.accounts.roles import AdminPolicy
from services.accounts.sessions import SessionStore
from services.accounts.users import change_user, get_user, search_users

log = get_logger(__name__)


@dataclass(frozen=True)
class UserChange:
    """None: stays as it is."""

    role: Role | None = None
    blocked: bool | None = None


class UserDirectory:
    def __init__(self, database: Database, sessions: SessionStore, policy: AdminPolicy) -> None:
        self._database = database
        self._sessions = sessions
        self._policy = policy

    async def search(self, where: UserFilter, limit: int, offset: int) -> Page[User]:
        items, total = await self._database.read(lambda connection: search_users(connection, where, limit, offset))
        return Page(tuple(items), total, limit, offset)

    async def change(self, admin: Caller, user_id: str, change: UserChange) -> User:
        """Change somebody's role, or keep them out; it holds for their live sessions at once.

        Raises NotFound, or ValidationFailed for what is not to be changed.
        """
        user = await self._database.write(lambda connection: self._change(connection, admin, user_id, change))
        await self._sessions.change_all(user.id, role=user.role, blocked="1" if user.blocked_at is not None else "")
        log.info("account changed by an admin", subject=user.id, role=change.role, blocked=change.blocked)
        return user

    def _change(self, connection: Connection, admin: Caller, user_id: str, change: UserChange) -> User:
        user = get_user(connection, user_id, locked=True)
        if user is None:
            raise NotFound(f"user {user_id}")
        problems = list(self._problems(connection, admin, user, change))
        if problems:
            raise ValidationFailed(problems)
        if change.role is not None:
            change_user(connection, user.id, role=change.role, is_granted_admin=change.role == "admin")
        if change.blocked is not None:
            since = user.blocked_at or now_ms()
            change_user(connection, user.id, blocked_at=since if change.blocked else None)
        changed = get_user(connection, user_id)
        assert changed is not None, "read and written in one transaction"
        return changed

    def _problems(self, connection: Connection, admin: Caller, user: User, change: UserChange) -> list[FieldProblem]:
        problems = []
        if user.id == admin.user_id:
            asked = {"role": change.role not in (None, user.role), "blocked": bool(change.blocked)}
            problems += [FieldProblem(field, "yourself") for field, given in asked.items() if given]
        if change.role is not None and (user.role == "guest") != (change.role == "guest"):
            allowed = ("guest",) if user.role == "guest" else ("user", "admin")
            problems.append(FieldProblem("role", "not_allowed", allowed=allowed))
        if change.role == "user" and self._policy.names(connection, user.github_id):
            problems.append(FieldProblem("role", "named_by_setting", hint="ADMIN_LOGINS"))
        return problems
