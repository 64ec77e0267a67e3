"""Signing in with GitHub: state and PKCE on the way out, the numeric id as the key on the way back."""

from typing import Any

from sqlalchemy import Connection

from core.clients.database import Database, take_turn
from core.clients.github import GitHubAway, GitHubClient, GitHubProfile, GitHubRefused, new_verifier
from core.clock import now_ms
from core.errors import DependencyUnavailable, Forbidden, Unauthorized
from core.ids import new_id
from core.logging import get_logger
from services.accounts.models import Role, Tokens, User, Visitor, github_folder_id
from services.accounts.roles import AdminPolicy
from services.accounts.service import AccountService
from services.accounts.states import StateStore
from services.accounts.users import add_user, change_user, claim_folder, find_by_github

MAX_NAME_CHARACTERS = 200

log = get_logger(__name__)


class GitHubSignIn:
    """`github` None: the operator has not set it up."""

    def __init__(
        self,
        accounts: AccountService,
        database: Database,
        states: StateStore,
        github: GitHubClient | None,
        policy: AdminPolicy,
    ) -> None:
        self._accounts = accounts
        self._database = database
        self._states = states
        self._github = github
        self._policy = policy

    @property
    def enabled(self) -> bool:
        return self._github is not None

    async def begin(self) -> tuple[str, str]:
        """The address of GitHub's page, and the state that comes back from there. Raises Forbidden."""
        github, verifier = self._set_up(), new_verifier()
        state = await self._states.new(verifier)
        return github.authorize_url(state, verifier), state

    async def finish(self, code: str, state: str, visitor: Visitor) -> Tokens:
        """Raises Unauthorized for a state or a code that is no good, DependencyUnavailable when GitHub is away."""
        github = self._set_up()
        verifier = await self._states.take(state)
        if verifier is None:
            raise Unauthorized("invalid_state")
        try:
            profile = await github.profile(code, verifier)
        except GitHubRefused as error:
            log.info("github refused a sign-in", reason=str(error))
            raise Unauthorized("github_refused") from error
        except GitHubAway as error:
            raise DependencyUnavailable("github", str(error)) from error
        user = await self._database.write(lambda connection: self._known_as(connection, profile))
        return await self._accounts.welcome(user, visitor)

    def _set_up(self) -> GitHubClient:
        if self._github is None:
            raise Forbidden("github_disabled")
        return self._github

    def _known_as(self, connection: Connection, profile: GitHubProfile) -> User:
        """The account of this numeric id, made when it is new; login, name and e-mail are what GitHub says today."""
        take_turn(connection, f"github account {profile.id}")
        self._policy.note_login(connection, profile.login, profile.id)
        known = find_by_github(connection, profile.id) or _come_back(connection, profile.id)
        if known is None:
            role: Role = "admin" if self._policy.names(connection, profile.id) else "user"
            user = _new_user(profile, role)
            add_user(connection, user)
            return user
        change_user(connection, known.id, **_shown(profile), role=self._policy.role(connection, known))
        found = find_by_github(connection, profile.id)
        assert found is not None, "read and written in one transaction"
        return found


def _come_back(connection: Connection, github_id: int) -> User | None:
    """The account of somebody whom the database had lost, and whose images were found again."""
    return claim_folder(connection, github_folder_id(github_id), github_id)


def _new_user(profile: GitHubProfile, role: Role) -> User:
    return User(
        id=new_id("usr"),
        role=role,
        folder_id=github_folder_id(profile.id),
        created_at=now_ms(),
        github_id=profile.id,
        **_shown(profile),
    )


def _shown(profile: GitHubProfile) -> dict[str, Any]:
    """What is shown of an account, by the names of `User`."""
    return {
        "login": profile.login[:MAX_NAME_CHARACTERS],
        "name": profile.name[:MAX_NAME_CHARACTERS] if profile.name else None,
        "email": profile.email,
        "avatar_url": profile.avatar_url,
    }
