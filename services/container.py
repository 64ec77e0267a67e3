"""The composition root: opens the clients, builds the services by their constructors, closes all of it again.

The API and the worker open the same container.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from core.clients.database import Database
from core.clients.http import GuardedHttp
from core.clients.redis_channels import RedisChannels
from core.metrics import Metrics
from core.security import LinkSigner
from core.settings import Settings
from services.accounts.assembly import AccountNeighbours, Accounts, assemble_accounts
from services.accounts.departure import Departures
from services.accounts.directory import UserDirectory
from services.accounts.export import AccountExport
from services.accounts.forebears import Forebears
from services.accounts.github import GitHubSignIn
from services.accounts.guests import GuestSignIn
from services.accounts.local import LocalAccounts
from services.accounts.own_keys import OwnKeys
from services.accounts.owners import OwnerRegistry
from services.accounts.service import AccountService
from services.accounts.service_keys import ServiceKeys
from services.chat.assembly import ChatNeighbours, Chats, assemble_chats
from services.checks import components
from services.generation.assembly import Generation, GenerationNeighbours, assemble_generation
from services.generation.recovery import Recovery
from services.generation.service import GenerationService
from services.generation.shares import ShareService
from services.ground import Ground, key_ring, open_ground
from services.health import HealthService
from services.history.assembly import History, assemble_history
from services.history.export import HistoryExport
from services.history.indexing import SearchIndexer
from services.history.links import LinkService
from services.history.retention import Retention
from services.history.service import HistoryService
from services.history.thumbnails import ThumbnailService
from services.idempotency import IdempotencyService
from services.limits import RateLimiter
from services.moderation.assembly import assemble_moderation
from services.moderation.service import ModerationService
from services.prompts.assembly import PromptNeighbours, Prompts, assemble_prompts
from services.providers.assembly import open_providers
from services.providers.service import ProviderService
from services.providers.structured import StructuredText
from services.quota.assembly import Quota, assemble_quota
from services.quota.service import QuotaService
from services.references.service import ReferenceService
from services.reindex.entering import Entering
from services.reindex.service import Reindexer
from services.storage.base import Storage
from services.storage.opening import prove_bucket
from services.storage.spool import Spool
from services.tasks.assembly import TaskNeighbours, Tasks, assemble_tasks
from services.tasks.event_tokens import EventTokens
from services.tasks.image_tasks import ImageTasks
from services.tasks.kinds import TaskKind
from services.tasks.operations import TaskOperations
from services.tasks.retention import TaskRetention
from services.tasks.runner import TaskRunner
from services.tasks.service import TaskService
from services.tasks.streams import TaskStreams
from services.tasks.sweep import TaskSweep
from services.tasks.webhooks import TaskWebhooks
from services.webhooks.courier import DeliveryTerms, WebhookCourier
from services.webhooks.sender import WebhookSender
from services.webhooks.service import WebhookService

VERSION = "0.1.0"
USUAL_TERMS = DeliveryTerms()


@dataclass(frozen=True)
class Container:
    settings: Settings
    metrics: Metrics
    redis: Redis
    channels: RedisChannels
    database: Database
    storage: Storage
    spool: Spool
    accounts: AccountService
    guests: GuestSignIn
    github: GitHubSignIn
    local_accounts: LocalAccounts
    directory: UserDirectory
    departures: Departures
    account_export: AccountExport
    own_keys: OwnKeys
    service_keys: ServiceKeys
    limiter: RateLimiter
    quota: QuotaService
    moderation: ModerationService
    providers: ProviderService
    references: ReferenceService
    generation: GenerationService
    shares: ShareService
    chats: Chats
    recovery: Recovery
    reindexer: Reindexer
    history: HistoryService
    history_export: HistoryExport
    retention: Retention
    search_index: SearchIndexer
    thumbnails: ThumbnailService
    links: LinkService
    tasks: TaskService
    image_tasks: ImageTasks
    task_runner: TaskRunner
    task_sweep: TaskSweep
    task_retention: TaskRetention
    task_operations: TaskOperations
    task_streams: TaskStreams
    task_webhooks: TaskWebhooks
    webhook_courier: WebhookCourier
    event_tokens: EventTokens
    prompts: Prompts
    health: HealthService


async def prove_parts(settings: Settings) -> None:
    """At the start of a process: raises SettingsError for what would never work, such as a bucket that refuses us."""
    if settings.storage.r2_enabled:
        settings.storage.data_dir.mkdir(parents=True, exist_ok=True)
        await prove_bucket(settings.storage, key_ring(settings))


@asynccontextmanager
async def open_container(
    settings: Settings, metrics: Metrics, kinds: Sequence[TaskKind] = (), terms: DeliveryTerms = USUAL_TERMS
) -> AsyncIterator[Container]:
    """Open everything; `kinds` of tasks beside our own, `terms` of delivering webhooks. Raises SettingsError or
    CatalogError, in one line each, when it cannot be.
    """
    async with AsyncExitStack() as stack:
        ground = open_ground(settings, metrics, stack)
        yield _container(ground, await _domains(ground, kinds, terms, stack), terms)


@dataclass(frozen=True)
class _Domains:
    """What was put together, before it is laid out for those who use it."""

    providers: ProviderService
    moderation: ModerationService
    quota: Quota
    history: History
    generation: Generation
    chats: Chats
    tasks: Tasks
    prompts: Prompts
    accounts: Accounts
    limiter: RateLimiter
    http: GuardedHttp


async def _domains(ground: Ground, kinds: Sequence[TaskKind], terms: DeliveryTerms, stack: AsyncExitStack) -> _Domains:
    settings, metrics, database = ground.settings, ground.metrics, ground.database
    providers = open_providers(ground, stack)
    text = StructuredText(providers, metrics)
    moderation = assemble_moderation(ground, providers, text)
    await moderation.start()
    stack.push_async_callback(moderation.close)
    quota, history, idempotency = assemble_quota(ground), assemble_history(ground), IdempotencyService(ground.redis)
    generation = assemble_generation(
        ground, GenerationNeighbours(providers, moderation, quota, history.service, idempotency), stack
    )
    forebears = Forebears(database).of
    chats = assemble_chats(ground, ChatNeighbours(generation.service, history.service, idempotency, forebears), stack)
    http = GuardedHttp(settings.tasks.allowed_private_hosts, resolver=terms.resolver, total_seconds=terms.try_seconds)
    stack.push_async_callback(http.close)
    tasks = assemble_tasks(
        ground,
        TaskNeighbours(
            forebears=forebears,
            idempotency=idempotency,
            shares=generation.shares,
            quota=quota.of_tasks,
            webhooks=WebhookService(database, http),
            links=history.links,
            kinds=kinds,
        ),
    )
    prompts = assemble_prompts(ground, PromptNeighbours(idempotency, providers, text, moderation, quota.service))
    limiter = RateLimiter(ground.redis, metrics)
    accounts = assemble_accounts(
        ground,
        AccountNeighbours(
            limiter=limiter,
            history=history.service,
            quota=quota.service,
            tasks=tasks.service,
            chats=chats.departure,
            providers=providers,
            forgetters=(
                history.search_index.forget,
                quota.service.forget,
                idempotency.forget,
                moderation.forget,
                limiter.forget,
                prompts.service.forget,
            ),
            inheritances=(prompts.service.adopt,),
        ),
        stack,
    )
    return _Domains(providers, moderation, quota, history, generation, chats, tasks, prompts, accounts, limiter, http)


def _container(ground: Ground, domains: _Domains, terms: DeliveryTerms) -> Container:
    settings, metrics, database, storage = ground.settings, ground.metrics, ground.database, ground.storage
    accounts, history, tasks, quota = domains.accounts, domains.history, domains.tasks, domains.quota
    return Container(
        settings=settings,
        metrics=metrics,
        redis=ground.redis,
        channels=ground.channels,
        database=database,
        storage=storage,
        spool=ground.spool,
        accounts=accounts.service,
        guests=accounts.guests,
        github=accounts.github,
        local_accounts=accounts.local,
        directory=accounts.directory,
        departures=accounts.departures,
        account_export=AccountExport(history.service, history.export, domains.chats.export),
        own_keys=accounts.own_keys,
        service_keys=accounts.service_keys,
        limiter=domains.limiter,
        quota=quota.service,
        moderation=domains.moderation,
        providers=domains.providers,
        references=ReferenceService(ground.spool, settings.storage, ground.files, ground.pixels),
        generation=domains.generation.service,
        shares=domains.generation.shares,
        chats=domains.chats,
        recovery=domains.generation.recovery,
        reindexer=_reindexer(ground, domains),
        history=history.service,
        history_export=history.export,
        retention=history.retention,
        search_index=history.search_index,
        thumbnails=history.thumbnails,
        links=history.links,
        tasks=tasks.service,
        image_tasks=tasks.images,
        task_runner=tasks.runner,
        task_sweep=tasks.sweep,
        task_retention=tasks.retention,
        task_operations=tasks.operations,
        task_streams=TaskStreams(tasks.events, ground.channels, tasks.service, metrics),
        task_webhooks=tasks.webhooks,
        webhook_courier=WebhookCourier(database, tasks.webhooks, WebhookSender(domains.http), terms.schedule, metrics),
        prompts=domains.prompts,
        event_tokens=EventTokens(LinkSigner(ground.keys, "event-token"), tasks.service),
        health=HealthService(components(ground.redis, database, storage, domains.providers, tasks.operations), VERSION),
    )


def _reindexer(ground: Ground, domains: _Domains) -> Reindexer:
    history, quota, tasks = domains.history.service, domains.quota.service, domains.tasks.service
    return Reindexer(
        ground.storage,
        history,
        quota,
        domains.generation.recovery,
        Entering(ground.storage, history, quota, tasks, OwnerRegistry(ground.database), ground.fail_points),
        tasks,
        call_lifetime_seconds=ground.call_lifetime_seconds,
    )
