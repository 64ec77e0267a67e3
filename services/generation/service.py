"""The one pipeline that every image goes through (docs/architecture.md has the walk).

resolve → keywords → reserve → provider → store bytes and record → index and charge → commit → answer
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from redis.exceptions import RedisError

from core.clock import now_ms
from core.errors import AppError, DependencyUnavailable, NotFound, Unauthorized
from core.failpoints import FailPoints
from core.ids import derived_id, new_id
from core.logging import get_logger
from core.metrics import Metrics
from core.settings import StorageSettings
from services.accounts.models import Caller
from services.generation.delivery import ImageKeeper, LeftBehind
from services.generation.errors import ImagePending
from services.generation.models import (
    CAPABILITIES,
    Generated,
    GenerationCommand,
    Kept,
    Passing,
    Work,
)
from services.generation.request import image_request
from services.generation.sources import clean_sources
from services.history.models import Image
from services.idempotency import KEPT_SECONDS, Call, IdempotencyKey, IdempotencyService
from services.moderation.models import ModerationContext
from services.moderation.service import ModerationService
from services.providers.base import ImageResult
from services.providers.service import ProviderService, Route
from services.quota.models import QuotaIdentity, Reservation, mode_key
from services.quota.service import QuotaService
from services.storage.names import EXTENSIONS, image_stem

UNLISTED_KEPT_MS = 24 * 3600 * 1000

log = get_logger(__name__)

StillWanted = Callable[[], Awaitable[bool]]


class ClientGone(Exception):
    """The client hung up before the provider was called; the points went back and nobody waits for an answer."""


class GenerationService:
    def __init__(
        self,
        providers: ProviderService,
        moderation: ModerationService,
        quota: QuotaService,
        keeper: ImageKeeper,
        idempotency: IdempotencyService,
        settings: StorageSettings,
        metrics: Metrics,
        fail_points: FailPoints,
        *,
        trial_enabled: bool,
    ) -> None:
        self._providers = providers
        self._moderation = moderation
        self._quota = quota
        self._keeper = keeper
        self._idempotency = idempotency
        self._guest_kept_ms = settings.guest_retention_hours * 3600 * 1000
        self._metrics = metrics
        self._fail_points = fail_points
        self._trial_enabled = trial_enabled
        self._running: set[asyncio.Task[Generated]] = set()

    async def generate(self, command: GenerationCommand, still_wanted: StillWanted) -> Generated:
        """Make one image, keep it and charge it. Raises the AppErrors of SPEC section 3; then nothing was charged.

        Once the provider was called the work is finished even if whoever awaits this goes away.
        """
        task = asyncio.create_task(self._to_its_end(command, still_wanted))
        self._running.add(task)
        self._metrics.running_generations.inc()
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def drain(self, seconds: float) -> None:
        """At a stop of the process: wait for what is under way.

        What takes longer is lost, as by a kill: the sweep gives its points back.
        """
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    def _forget(self, task: asyncio.Task[Generated]) -> None:
        self._running.discard(task)
        self._metrics.running_generations.dec()
        if not task.cancelled() and task.exception() is not None:
            # Read here so that one whose client is gone does not complain at collection; _counted() counts it.
            log.debug("generation ended without an image", reason=repr(task.exception()))

    async def _to_its_end(self, command: GenerationCommand, still_wanted: StillWanted) -> Generated:
        try:
            return await self._once(command, still_wanted)
        finally:
            for reference in command.references:
                reference.remove()

    async def _once(self, command: GenerationCommand, still_wanted: StillWanted) -> Generated:
        """Under an Idempotency-Key what was made before is answered again."""
        key = command.idempotency
        if key is None:
            return await self._counted(command, Call(new_id("call"), now_ms()), still_wanted)
        async with self._idempotency.claim(key) as call:
            made = await self._made_before(command, key, call)
            return made or await self._counted(command, call, still_wanted)

    async def _made_before(self, command: GenerationCommand, key: IdempotencyKey, call: Call) -> Generated | None:
        """What this key has made within its 24 h. Raises NotFound when it was deleted since."""
        # A claim that is new may be so only because Redis was emptied.
        call_ids = self._idempotency.candidates(key) if call.state == "new" else (call.id,)
        for call_id in call_ids:
            image = await self._keeper.find(key.caller, derived_id("img", call_id, 0))
            if image is not None and (call.state != "new" or image.created_at > now_ms() - KEPT_SECONDS * 1000):
                data = await self._keeper.bytes_of(image) if command.include_bytes else None
                return Generated.of_image(image, data, lifecycle=None, replayed=True)
            if call.state == "done" or await self._quota.charged_images(call_id):
                raise NotFound(f"the image of {call_id}")
        return None

    async def _counted(self, command: GenerationCommand, call: Call, still_wanted: StillWanted) -> Generated:
        outcome, provider = "error", "none"  # a name that the caller made up must not become a time series
        try:
            with self._step("resolve"):
                route = self._route(command)
                provider = route.provider.name
                request = image_request(command, route)
            generated = await self._checked(Work(command, call, route, request), still_wanted)
            outcome = "ok"
            return generated
        except AppError as error:
            outcome = error.code
            raise
        except ClientGone:
            outcome = "client_gone"
            raise
        finally:
            self._metrics.generations.labels(command.mode, provider, outcome).inc()

    def _route(self, command: GenerationCommand) -> Route:
        caller = command.caller
        if caller is None and command.own_key is None:
            raise Unauthorized()
        return self._providers.route(
            CAPABILITIES[command.mode],
            provider=command.provider,
            model=command.model,
            own_key=command.own_key,
            operator_key_allowed=caller is not None and (self._trial_enabled or caller.role == "admin"),
        )

    async def _checked(self, work: Work, still_wanted: StillWanted) -> Generated:
        command = work.command
        user_id = command.caller.user_id if command.caller else None
        context = ModerationContext(user_id=user_id, request_id=command.request_id, mode=command.mode)
        with self._step("keywords"):
            check = await self._moderation.check_keywords(command.prompt, context)
        audit = asyncio.create_task(self._moderation.finish(check))
        try:
            with self._step("reserve"):
                work = await self._reserved(work)
            self._fail_points.reach("reserved")
            return await self._made(work, still_wanted)
        finally:
            await audit

    async def _reserved(self, work: Work) -> Work:
        """Hold the points of a call on the operator's key; any other call that keeps its image is only noted, so that
        the sweep finds what it may leave.
        """
        command, caller = work.command, work.command.caller
        if caller is None:
            return work
        stem = _stem(command, caller, work.call)
        if is_metered(caller, work.route.key_source == "request"):
            mode = mode_key(command.mode, command.resolution)
            reservation = await self._quota.reserve(
                quota_identity(caller), mode, count=1, reservation_id=work.call.id, note=stem
            )
        else:
            reservation = await self._quota.hold(quota_identity(caller), reservation_id=work.call.id, note=stem)
        return replace(work, reservation=reservation)

    async def _made(self, work: Work, still_wanted: StillWanted) -> Generated:
        try:
            made = await self._left_by_an_earlier_try(work) or await self._called(work, still_wanted)
        except LeftBehind:
            # The points come back when the sweep has cleared away what storage would not let go of.
            raise
        except BaseException:
            await self._release(work.reservation)
            raise
        if isinstance(made, Passing):
            return made.answer(work.route.model)
        # From here on nothing is given back: what fails now, the sweep finishes.
        self._fail_points.reach("record_stored")
        with self._step("index"):
            await self._indexed(made)
        self._fail_points.reach("indexed")
        with self._step("commit"):
            await self._commit(work.reservation)
        self._fail_points.reach("committed")
        return Generated.of_image(made.record.image, made.data, lifecycle=work.route.model, replayed=False)

    async def _indexed(self, made: Kept) -> None:
        try:
            await self._keeper.index(made.record)
        except DependencyUnavailable as error:
            raise ImagePending(str(error)) from error

    async def _left_by_an_earlier_try(self, work: Work) -> Kept | None:
        if work.command.idempotency is None or work.reservation is None:
            return None
        record = await self._keeper.find_record(work.reservation)
        if record is None:
            return None
        return Kept(record, await self._keeper.bytes_of(record.image) if work.command.include_bytes else None)

    async def _called(self, work: Work, still_wanted: StillWanted) -> Kept | Passing:
        if not await still_wanted():
            raise ClientGone
        started = time.perf_counter()
        with self._step("provider"):
            result = await self._providers.make_image(work.route, work.request)
        duration = round(time.perf_counter() - started, 3)
        result = replace(result, search_sources=clean_sources(result.search_sources))
        self._fail_points.reach("answered")
        spooled, command, reservation = result.image, work.command, work.reservation
        try:
            if command.caller is None or reservation is None:
                return Passing(result, duration, await self._keeper.read(spooled))
            data = await self._keeper.read(spooled) if command.include_bytes else None
            draft = self._draft(work, command.caller, reservation, result, duration)
            with self._step("store"):
                return Kept(await self._keeper.store(draft, spooled, reservation), data)
        finally:
            spooled.remove()

    async def _release(self, reservation: Reservation | None) -> None:
        if reservation is None:
            return
        try:
            await self._quota.release(reservation)
        except RedisError as error:
            log.warning("points come back when the reservation expires", call_id=reservation.id, reason=str(error))

    async def _commit(self, reservation: Reservation | None) -> None:
        if reservation is None:
            return
        try:
            await self._quota.commit(reservation)
        except RedisError as error:
            # The ledger has the charge: the expiry of the reservation, or a rebuild, brings the counters to it.
            log.warning("counters follow the ledger later", call_id=reservation.id, reason=str(error))

    def _draft(
        self,
        work: Work,
        caller: Caller,
        reservation: Reservation,
        result: ImageResult,
        duration: float,
    ) -> Image:
        command, facts, now = work.command, result.image.facts, now_ms()
        return Image(
            id=derived_id("img", work.call.id, 0),
            user_id=caller.user_id,
            folder_id=caller.folder_id,
            key=f"{reservation.note}.{EXTENSIONS[facts.mime_type]}",
            mode=command.mode,
            prompt=command.prompt,
            aspect_ratio=command.aspect_ratio,
            resolution=command.resolution,
            provider=work.route.provider.name,
            model=work.route.model.id,
            duration=duration,
            created_at=now,
            width=facts.width,
            height=facts.height,
            size=result.image.size,
            mime_type=facts.mime_type,
            call_id=work.call.id,
            listed=command.save_to_history,
            negative_prompt=command.negative_prompt,
            seed=command.seed,
            safety_level=command.safety_level,
            text_response=result.text_response,
            thinking=result.thinking,
            search_sources=result.search_sources,
            expires_at=self._expiry(command, caller, now),
        )

    def _expiry(self, command: GenerationCommand, caller: Caller, now: int) -> int | None:
        if not command.save_to_history:
            return now + UNLISTED_KEPT_MS
        return now + self._guest_kept_ms if caller.role == "guest" else None

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.step_seconds.labels(name).observe(time.perf_counter() - started)


def is_metered(caller: Caller, has_own_key: bool) -> bool:
    """Only callers on the operator's key are; admins are not, but for a service key of theirs with a cap: it is to be
    kept, whoever set it.
    """
    return not has_own_key and (caller.role != "admin" or caller.daily_points is not None)


def quota_identity(caller: Caller) -> QuotaIdentity:
    address = caller.address if caller.role == "guest" else None
    return QuotaIdentity(caller.user_id, address, caller.service_key_id, caller.daily_points)


def _stem(command: GenerationCommand, caller: Caller, call: Call) -> str:
    return image_stem(
        folder_id=caller.folder_id,
        mode=command.mode,
        prompt=command.prompt,
        image_id=derived_id("img", call.id, 0),
        made_at=call.started_at,
        listed=command.save_to_history,
    )
