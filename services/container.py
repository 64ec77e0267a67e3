"""The composition root: opens the clients, builds the services by their constructors, closes all of it again.

The API and the worker open the same container.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from pydantic import SecretStr
from redis.asyncio import Redis

from core.clients.database import Database, open_database
from core.clients.github import GitHubClient
from core.clients.http import GuardedHttp
from core.clients.lease import Lease
from core.clients.redis import open_pool, open_redis
from core.clients.redis_channels import RedisChannels
from core.clock import now_ms
from core.failpoints import FailPoints
from core.metrics import Metrics
from core.security import KeyRing, LinkSigner, Vault, load_or_make_secret
from core.settings import Settings, SettingsError, embedded_database
from services.accounts.assembly import Neighbours, assemble
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
from services.checks import components
from services.generation.delivery import ImageKeeper
from services.generation.recovery import Recovery
from services.generation.service import GenerationService
from services.health import HealthService
from services.history.clearing import Clearings
from services.history.export import HistoryExport
from services.history.links import LinkService
from services.history.removal import Remover
from services.history.retention import LOCK, Retention
from services.history.service import HistoryService
from services.history.thumbnails import ThumbnailService
from services.idempotency import IdempotencyService
from services.limits import RateLimiter
from services.moderation.service import ModerationService
from services.providers.base import Provider
from services.providers.catalog import Catalog, load_catalog
from services.providers.demo.provider import DemoProvider
from services.providers.gemini import CONNECT_SECONDS, GeminiProvider
from services.providers.service import ProviderService
from services.quota.service import QuotaService
from services.quota.store import QuotaStore
from services.quota.task_quota import TaskQuota
from services.references.service import ReferenceService
from services.reindex.entering import Entering
from services.reindex.service import Reindexer
from services.storage.base import Storage
from services.storage.opening import open_storage, prove_bucket
from services.storage.spool import Spool
from services.tasks.assembly import TaskNeighbours, assemble_tasks
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
FILE_THREADS = 8
PIXEL_THREADS = 2
PASSWORD_THREADS = 2
READ_BUFFER_BYTES = 16 * 1024
USUAL_TERMS = DeliveryTerms()
DRAIN_SECONDS = 3  # after uvicorn gave requests 25 s, within the 30 s that the leader gives a process


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
    recovery: Recovery
    reindexer: Reindexer
    history: HistoryService
    history_export: HistoryExport
    retention: Retention
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
    health: HealthService


def read_catalog(settings: Settings) -> Catalog:
    """The models of this installation. Raises CatalogError, or SettingsError for defaults that its models refuse."""
    override = settings.storage.data_dir / "models.toml"
    catalog = load_catalog(override, default_models={"gemini": settings.providers.gemini_image_model})
    defaults, problems = settings.defaults, []
    for provider in catalog.providers.values():
        model = catalog.named(provider.default_model)
        if defaults.default_aspect_ratio not in model.aspect_ratios:
            problems.append(f"DEFAULT_ASPECT_RATIO: {model.id} takes {' '.join(model.aspect_ratios)}")
        if defaults.default_resolution not in model.resolutions:
            problems.append(f"DEFAULT_RESOLUTION: {model.id} takes {' '.join(model.resolutions)}")
    if problems:
        raise SettingsError(problems)
    return catalog


async def prove_parts(settings: Settings) -> None:
    """At the start of a process: raises SettingsError for what would never work, such as a bucket that refuses us."""
    if settings.storage.r2_enabled:
        settings.storage.data_dir.mkdir(parents=True, exist_ok=True)
        await prove_bucket(settings.storage, _key_ring(settings))


@asynccontextmanager
async def open_container(
    settings: Settings, metrics: Metrics, kinds: Sequence[TaskKind] = (), terms: DeliveryTerms = USUAL_TERMS
) -> AsyncIterator[Container]:
    """Open everything; `kinds` of tasks beside our own, `terms` of delivering webhooks. Raises SettingsError or
    CatalogError, in one line each, when it cannot be.
    """
    async with AsyncExitStack() as stack:
        yield await _build(settings, metrics, kinds, terms, stack)


async def _build(
    settings: Settings, metrics: Metrics, kinds: Sequence[TaskKind], terms: DeliveryTerms, stack: AsyncExitStack
) -> Container:
    data_dir = settings.storage.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    files, pixels = _threads(stack, FILE_THREADS, "files"), _threads(stack, PIXEL_THREADS, "pixels")
    redis, channels = _redis(settings, stack)
    database = open_database(
        settings.database.database_url.get_secret_value(), embedded_database(data_dir), settings.server.web_concurrency
    )
    stack.push_async_callback(database.close)
    spool = Spool(data_dir / "spool")
    keys = _key_ring(settings)
    storage = open_storage(settings.storage, keys, spool, files, stack)

    providers = await _providers(settings, metrics, spool, files, pixels, stack)
    moderation = ModerationService(storage, settings.moderation, now_ms, on_audit_failure=metrics.audit_failures.inc)
    await moderation.start()
    stack.push_async_callback(moderation.close)
    quota_store = QuotaStore(redis)
    call_lifetime = settings.server.request_timeout_seconds + settings.quota.reservation_grace_seconds
    quota = QuotaService(quota_store, database, settings.quota, metrics, call_lifetime_seconds=call_lifetime)
    task_quota = TaskQuota(quota, quota_store, database, lifetime_ms=int(call_lifetime * 1000))
    idempotency = IdempotencyService(redis)
    fail_points = FailPoints(settings.debugging.fail_point)
    remover = Remover(database, storage, fail_points)
    clearings = Clearings(database, remover, fail_points)
    history = HistoryService(database, storage, remover, clearings, fail_points)
    history_export = HistoryExport(storage, spool, files)
    keeper = ImageKeeper(storage, history, quota, files, fail_points)
    generation = GenerationService(
        providers,
        moderation,
        quota,
        keeper,
        idempotency,
        settings.storage,
        metrics,
        fail_points,
        trial_enabled=settings.quota.trial_enabled,
    )
    stack.push_async_callback(generation.drain, DRAIN_SECONDS)
    http = GuardedHttp(settings.tasks.allowed_private_hosts, resolver=terms.resolver, total_seconds=terms.try_seconds)
    stack.push_async_callback(http.close)
    links = LinkService(
        LinkSigner(keys, "signed-link"), settings.storage.image_url_ttl_seconds, settings.storage.public_bucket_url
    )
    tasks = assemble_tasks(
        settings,
        TaskNeighbours(
            redis=redis,
            channels=channels,
            database=database,
            storage=storage,
            spool=spool,
            vault=Vault(keys),
            forebears=Forebears(database).of,
            idempotency=idempotency,
            generation=generation,
            quota=task_quota,
            webhooks=WebhookService(database, http),
            links=links,
            threads=files,
            metrics=metrics,
            fail_points=fail_points,
            kinds=kinds,
        ),
    )
    recovery = Recovery(quota, task_quota, keeper, metrics)
    entering = Entering(storage, history, quota, tasks.service, OwnerRegistry(database), fail_points)
    limiter = RateLimiter(redis, metrics)
    accounts = assemble(
        settings,
        Neighbours(
            redis=redis,
            database=database,
            keys=keys,
            limiter=limiter,
            history=history,
            quota=quota,
            tasks=tasks.service,
            providers=providers,
            threads=_threads(stack, PASSWORD_THREADS, "passwords"),
            github=_github(settings, stack),
            forgetters=(quota.forget, idempotency.forget, moderation.forget, limiter.forget),
        ),
    )
    stack.push_async_callback(accounts.service_keys.drain)
    return Container(
        settings=settings,
        metrics=metrics,
        redis=redis,
        channels=channels,
        database=database,
        storage=storage,
        spool=spool,
        accounts=accounts.service,
        guests=accounts.guests,
        github=accounts.github,
        local_accounts=accounts.local,
        directory=accounts.directory,
        departures=accounts.departures,
        account_export=AccountExport(history, history_export),
        own_keys=accounts.own_keys,
        service_keys=accounts.service_keys,
        limiter=limiter,
        quota=quota,
        moderation=moderation,
        providers=providers,
        references=ReferenceService(spool, settings.storage, files, pixels),
        generation=generation,
        recovery=recovery,
        reindexer=Reindexer(
            storage, history, quota, recovery, entering, tasks.service, call_lifetime_seconds=call_lifetime
        ),
        history=history,
        history_export=history_export,
        retention=Retention(database, remover, clearings, Lease(redis, LOCK()), settings.storage, metrics, fail_points),
        thumbnails=ThumbnailService(storage, pixels, settings.storage.max_image_pixels),
        links=links,
        tasks=tasks.service,
        image_tasks=tasks.images,
        task_runner=tasks.runner,
        task_sweep=tasks.sweep,
        task_retention=tasks.retention,
        task_operations=tasks.operations,
        task_streams=TaskStreams(tasks.events, channels, tasks.service, metrics),
        task_webhooks=tasks.webhooks,
        webhook_courier=WebhookCourier(database, tasks.webhooks, WebhookSender(http), terms.schedule, metrics),
        event_tokens=EventTokens(LinkSigner(keys, "event-token"), tasks.service),
        health=HealthService(components(redis, database, storage, providers, tasks.operations), VERSION),
    )


def _threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    stack.push_async_callback(asyncio.to_thread, executor.shutdown)
    return executor


def _redis(settings: Settings, stack: AsyncExitStack) -> tuple[Redis, RedisChannels]:
    url = settings.redis.redis_url
    if url is None:
        raise SettingsError(["REDIS_URL: is empty; scripts/run starts an embedded Redis and sets it"])
    redis = open_redis(url)
    stack.push_async_callback(redis.aclose)
    channels = RedisChannels(open_pool(url, decode_responses=True))
    stack.push_async_callback(channels.close)
    return redis, channels


def _github(settings: Settings, stack: AsyncExitStack) -> GitHubClient | None:
    if not settings.accounts.github_enabled:
        return None
    client = GitHubClient(settings.accounts)
    stack.push_async_callback(client.close)
    return client


def _key_ring(settings: Settings) -> KeyRing:
    given = settings.security.secret_key
    current = given or load_or_make_secret(settings.storage.data_dir / "secret_key")
    return KeyRing(current, settings.security.secret_key_previous)


async def _providers(
    settings: Settings,
    metrics: Metrics,
    spool: Spool,
    files: ThreadPoolExecutor,
    pixels: ThreadPoolExecutor,
    stack: AsyncExitStack,
) -> ProviderService:
    catalog = read_catalog(settings)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        # What waits in memory for each of many answers at once, before the sender is told to wait.
        read_bufsize=READ_BUFFER_BYTES,
        # The time of a try is limited around the whole call; compression would cost more than an image in base64 saves.
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
        headers={"accept-encoding": "identity"},
    )
    gemini = GeminiProvider(settings.providers.google_gemini_base_url, session, spool, files)
    providers: dict[str, Provider] = {gemini.name: gemini}
    if settings.demo_enabled:
        demo = DemoProvider(spool, pixels)
        providers[demo.name] = demo
    operator_keys: dict[str, SecretStr] = {}
    if settings.providers.google_api_key is not None:
        operator_keys[gemini.name] = settings.providers.google_api_key
    service = ProviderService(
        providers, catalog, operator_keys, metrics, total_seconds=settings.server.request_timeout_seconds
    )
    stack.push_async_callback(service.close)
    return service
