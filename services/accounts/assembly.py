"""The parts of this domain, put together for the composition root."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from core.clients.github import GitHubClient
from core.security import SETUP_TOKEN_FILE, AccessTokens, RefreshTokens, SetupToken, Vault
from core.settings import Settings
from services.accounts.departure import Departures, Forget, Inherit
from services.accounts.directory import UserDirectory
from services.accounts.github import GitHubSignIn
from services.accounts.guests import GuestSignIn
from services.accounts.local import LocalAccounts
from services.accounts.own_keys import OwnKeys
from services.accounts.passwords import Passwords
from services.accounts.roles import AdminPolicy
from services.accounts.service import AccountService
from services.accounts.service_keys import ServiceKeys
from services.accounts.sessions import SessionStore
from services.accounts.states import StateStore
from services.chat.departure import ChatDeparture
from services.ground import Ground, open_threads
from services.history.service import HistoryService
from services.limits import RateLimiter
from services.providers.service import ProviderService
from services.quota.service import QuotaService
from services.tasks.service import TaskService

ACCESS_TOKEN_SECONDS = 15 * 60
PASSWORD_THREADS = 2


@dataclass(frozen=True)
class Accounts:
    service: AccountService
    guests: GuestSignIn
    github: GitHubSignIn
    local: LocalAccounts
    directory: UserDirectory
    departures: Departures
    own_keys: OwnKeys
    service_keys: ServiceKeys


@dataclass(frozen=True)
class AccountNeighbours:
    """What accounts rest on. `forgetters`, `inheritances`: see `Departures`."""

    limiter: RateLimiter
    history: HistoryService
    quota: QuotaService
    tasks: TaskService
    chats: ChatDeparture
    providers: ProviderService
    forgetters: Sequence[Forget]
    inheritances: Sequence[Inherit]


def assemble_accounts(ground: Ground, given: AccountNeighbours, stack: AsyncExitStack) -> Accounts:
    """`stack` closes what is opened here."""
    settings, keys, database, sessions = ground.settings, ground.keys, ground.database, SessionStore(ground.redis)
    policy = AdminPolicy(settings.accounts.admin_logins)
    departures = Departures(
        sessions,
        database,
        given.history,
        given.quota,
        given.tasks,
        given.chats,
        given.forgetters,
        given.inheritances,
        under_way_seconds=ground.call_lifetime_seconds,
    )
    service = AccountService(
        sessions,
        database,
        AccessTokens(keys, ACCESS_TOKEN_SECONDS),
        RefreshTokens(keys),
        given.limiter,
        policy,
        departures,
    )
    local = LocalAccounts(
        service,
        database,
        Passwords(open_threads(stack, PASSWORD_THREADS, "passwords")),
        SetupToken(keys),
        settings.storage.data_dir / SETUP_TOKEN_FILE,
        enabled=settings.local_accounts_enabled,
    )
    service_keys = ServiceKeys(database)
    stack.push_async_callback(service_keys.drain)
    return Accounts(
        service=service,
        guests=GuestSignIn(service, database, enabled=settings.accounts.guest_enabled),
        github=GitHubSignIn(service, database, StateStore(ground.redis), _github(settings, stack), policy),
        local=local,
        directory=UserDirectory(database, sessions, policy),
        departures=departures,
        own_keys=OwnKeys(sessions, Vault(keys), given.providers),
        service_keys=service_keys,
    )


def _github(settings: Settings, stack: AsyncExitStack) -> GitHubClient | None:
    """None: not set up."""
    if not settings.accounts.github_enabled:
        return None
    client = GitHubClient(settings.accounts)
    stack.push_async_callback(client.close)
    return client
