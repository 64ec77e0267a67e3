"""The parts of this domain, put together for the composition root."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from redis.asyncio import Redis

from core.clients.database import Database
from core.clients.github import GitHubClient
from core.security import SETUP_TOKEN_FILE, AccessTokens, KeyRing, RefreshTokens, SetupToken, Vault
from core.settings import Settings
from services.accounts.departure import Departures, Forget
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
from services.history.service import HistoryService
from services.limits import RateLimiter
from services.providers.service import ProviderService
from services.quota.service import QuotaService
from services.tasks.service import TaskService

ACCESS_TOKEN_SECONDS = 15 * 60


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
class Neighbours:
    """What accounts rest on. `forgetters`: see `Departures`; `threads` are for passwords; `github` None: not set up."""

    redis: Redis
    database: Database
    keys: KeyRing
    limiter: RateLimiter
    history: HistoryService
    quota: QuotaService
    tasks: TaskService
    providers: ProviderService
    threads: Executor
    github: GitHubClient | None
    forgetters: Sequence[Forget]


def assemble(settings: Settings, given: Neighbours) -> Accounts:
    database, sessions = given.database, SessionStore(given.redis)
    policy = AdminPolicy(settings.accounts.admin_logins)
    departures = Departures(
        sessions,
        database,
        given.history,
        given.quota,
        given.tasks,
        given.forgetters,
        under_way_seconds=settings.server.request_timeout_seconds + settings.quota.reservation_grace_seconds,
    )
    service = AccountService(
        sessions,
        database,
        AccessTokens(given.keys, ACCESS_TOKEN_SECONDS),
        RefreshTokens(given.keys),
        given.limiter,
        policy,
        departures,
    )
    local = LocalAccounts(
        service,
        database,
        Passwords(given.threads),
        SetupToken(given.keys),
        settings.storage.data_dir / SETUP_TOKEN_FILE,
        enabled=settings.local_accounts_enabled,
    )
    return Accounts(
        service=service,
        guests=GuestSignIn(service, database, enabled=settings.accounts.guest_enabled),
        github=GitHubSignIn(service, database, StateStore(given.redis), given.github, policy),
        local=local,
        directory=UserDirectory(database, sessions, policy),
        departures=departures,
        own_keys=OwnKeys(sessions, Vault(given.keys), given.providers),
        service_keys=ServiceKeys(database),
    )
