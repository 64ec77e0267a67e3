"""Staying signed in: sessions and their tokens, whatever way somebody has signed in."""

from core.clients.database import Database
from core.clock import now_ms
from core.errors import Forbidden, NotFound, Unauthorized
from core.ids import new_id
from core.logging import get_logger
from core.security import AccessClaims, AccessTokens, RefreshTokens
from services.accounts.departure import Departures
from services.accounts.models import Caller, Session, Tokens, User, Visitor
from services.accounts.roles import AdminPolicy
from services.accounts.sessions import Rotation, SessionStore
from services.accounts.users import change_user, get_user
from services.limits import Allowance, Limit, RateLimiter

MAX_USER_AGENT_CHARACTERS = 200

log = get_logger(__name__)


class AccountService:
    def __init__(
        self,
        sessions: SessionStore,
        database: Database,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        limiter: RateLimiter,
        policy: AdminPolicy,
        departures: Departures,
    ) -> None:
        self._limiter = limiter
        self._sessions = sessions
        self._database = database
        self._access = access_tokens
        self._refresh = refresh_tokens
        self._policy = policy
        self._departures = departures

    async def authenticate(self, access_token: str, *, address: str) -> Caller:
        """Who this token speaks for. Raises Unauthorized, also when its session has ended; Forbidden when blocked."""
        claims = self._access.verify(access_token)
        return _caller(await self._sessions.get(claims.session_id), claims, address)

    async def admit(self, access_token: str, limit: Limit, *, address: str) -> tuple[Caller, Allowance]:
        """Who this token speaks for, and what this request leaves of that caller's limit, in one round trip.

        Raises as `authenticate`.
        """
        claims = self._access.verify(access_token)
        session, reset, (used, _) = await self._sessions.get_with(
            claims.session_id, lambda pipeline: self._limiter.ask(pipeline, claims.user_id, limit)
        )
        return _caller(session, claims, address), self._limiter.allowance(limit, used, reset)

    async def welcome(self, user: User, visitor: Visitor) -> Tokens:
        """Open a session for somebody who has proven who they are; what they made as a guest is theirs now.

        Raises Forbidden when an admin keeps them out.
        """
        if user.blocked_at is not None:
            raise Forbidden("blocked")
        now = now_ms()
        session = Session(
            id=new_id("ses"),
            user_id=user.id,
            role=user.role,
            folder_id=user.folder_id,
            created_at=now,
            last_active=now,
            user_agent=visitor.user_agent[:MAX_USER_AGENT_CHARACTERS],
            address=visitor.address,
        )
        refresh_token = self._refresh.new()
        await self._sessions.add(session, self._refresh.fingerprint(refresh_token))
        user = await self._still_welcome(session)
        if visitor.guest_id is not None:
            await self._departures.merge(visitor.guest_id, user.id)
        return self._tokens(user, session.id, refresh_token)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Trade a refresh token for the next pair.

        Two tabs within 30 s get the same successor; later the token counts as stolen and its session ends.
        Raises Unauthorized, or Forbidden when blocked.
        """
        rotation, successor = await self._rotated(refresh_token)
        session = await self._sessions.get(rotation.session_id) if rotation.session_id else None
        if session is None:
            raise Unauthorized("invalid_refresh_token")
        if rotation.result == "reused":
            await self._sessions.remove(session.user_id, session.id)
            log.warning("refresh token used again, session ended", session_id=session.id, user_id=session.user_id)
            raise Unauthorized("refresh_token_reused")
        user = await self._current(session)
        return self._tokens(user, session.id, successor)

    async def user(self, user_id: str) -> User:
        """Raises Unauthorized when the account is gone."""
        user = await self._database.read(lambda connection: get_user(connection, user_id))
        if user is None:
            raise Unauthorized("account_gone")
        return user

    async def sessions(self, caller: Caller) -> list[Session]:
        return await self._sessions.of_user(caller.user_id)

    async def end_session(self, caller: Caller, session_id: str) -> None:
        """Sign one of the caller's own sessions out, at once. Raises NotFound."""
        if not await self._sessions.remove(caller.user_id, session_id):
            raise NotFound(f"session {session_id}")

    async def _rotated(self, token: str) -> tuple[Rotation, str]:
        """What became of a refresh token, and its successor: the last one, where tabs that share a cookie have gone on
        meanwhile. An earlier one, in the cookie of all of them, would soon count as stolen.
        """
        fingerprint = self._refresh.fingerprint
        while True:
            successor = self._refresh.successor(token)
            rotation = await self._sessions.rotate(fingerprint(token), fingerprint(successor))
            if rotation.result != "overtaken":
                return rotation, successor
            token = successor

    async def _still_welcome(self, session: Session) -> User:
        """The session's user as they are now. Whoever was blocked, given another role, or has left since the account
        was read: their sessions were gone through before this one was there.
        """
        role = session.role
        while True:
            user = await self._database.read(lambda connection: get_user(connection, session.user_id))
            if user is None or user.blocked_at is not None:
                await self._sessions.remove(session.user_id, session.id)
                raise Unauthorized("account_gone") if user is None else Forbidden("blocked")
            if user.role == role:
                return user
            # Then looked at once more: an admin may have changed it between the look and this.
            role = user.role
            await self._sessions.change(session.id, role=role)

    async def _current(self, session: Session) -> User:
        """The session's user, with the role that the settings and the admins give them by now."""
        user = await self.user(session.user_id)
        if user.blocked_at is not None:
            raise Forbidden("blocked")
        role = await self._database.read(lambda connection: self._policy.role(connection, user))
        if role != user.role:
            await self._database.write(lambda connection: change_user(connection, user.id, role=role))
            user = await self.user(user.id)
        if role != session.role:
            await self._sessions.change_all(user.id, role=role)
        return user

    def _tokens(self, user: User, session_id: str, refresh_token: str) -> Tokens:
        access = self._access.issue(user.id, session_id, user.role, now_ms() // 1000)
        return Tokens(access, refresh_token, self._access.lifetime_seconds, user)


def _caller(session: Session | None, claims: AccessClaims, address: str) -> Caller:
    if session is None or session.user_id != claims.user_id:
        raise Unauthorized("session_ended")
    if session.blocked:
        raise Forbidden("blocked")
    return Caller(
        user_id=session.user_id,
        role=session.role,
        folder_id=session.folder_id,
        session_id=session.id,
        address=address,
        sealed_key=session.sealed_key,
        masked_key=session.masked_key,
    )
