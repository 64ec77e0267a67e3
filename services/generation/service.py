"""The one pipeline that every image goes through (docs/architecture.md has the walk).

resolve → keywords → reserve → AI moderation → provider → store bytes and record → index and charge → commit → answer
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from redis.exceptions import RedisError

from core.clock import now_ms
from core.errors import AppError, DependencyUnavailable, NotFound, Unauthorized
from core.failpoints import FailPoints
from core.ids import derived_id, new_id
from core.logging import get_logger
from core.metrics import Metrics
from core.setting_groups import StorageSettings
from services.generation.delivery import ImageKeeper, LeftBehind
from services.generation.drafts import draft_of, image_id_of, is_metered, quota_identity, stem_of_call
from services.generation.errors import ImagePending
from services.generation.models import (
    CAPABILITIES,
    Accepted,
    Answer,
    Generated,
    GenerationCommand,
    Kept,
    Passing,
    Share,
    Work,
)
from services.generation.request import image_request
from services.generation.sources import clean_sources
from services.history.models import Image
from services.idempotency import KEPT_SECONDS, Call, IdempotencyKey, IdempotencyService
from services.moderation.models import ModerationCheck, ModerationContext
from services.moderation.service import ModerationService
from services.providers.service import ProviderService, Route
from services.quota.models import Reservation, mode_key
from services.quota.service import QuotaService

log = get_logger(__name__)

Result = TypeVar("Result")
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
        self._audits: set[asyncio.Task[None]] = set()

    async def generate(self, command: GenerationCommand, still_wanted: StillWanted) -> Generated:
        """Make one image, keep it and charge it. Raises the AppErrors of SPEC section 3; then nothing was charged.

        Once the provider was called the work is finished even if whoever awaits this goes away.
        """
        task = asyncio.create_task(self._to_its_end(command, still_wanted))
        self._running.add(task)
        self._metrics.running_generations.inc()
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def accept(self, command: GenerationCommand) -> Accepted:
        """Look at a command whose images a task is to make. Raises what `generate` would before it reserves."""
        route = self._route(command)
        image_request(command, route)
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        check = await self._check_keywords(command)
        audit = asyncio.create_task(self._moderation.finish(check))
        self._audits.add(audit)
        audit.add_done_callback(self._audits.discard)
        uses_own_key = route.key_source == "request"
        return Accepted(
            provider=route.provider.name,
            model=route.model.id,
            is_metered=is_metered(caller, uses_own_key),
            uses_own_key=uses_own_key,
            lifecycle=route.model,
        )

    async def make_share(self, command: GenerationCommand, share: Share) -> Image:
        """One image of a task whose command was accepted; what an earlier try of it has left is gone on with.

        Raises as `generate`, and HoldGone when the task has ended meanwhile. Whoever cancels this drops the provider's
        call; what the provider has sent by then is kept and charged first.
        """
        try:
            return await self._share(command, share)
        finally:
            for reference in command.references:
                reference.remove()

    async def find_share(self, command: GenerationCommand, share: Share) -> Image | None:
        """The image of a share that some try of it has made; one that is stored and not indexed yet is, and charged.

        Raises HoldGone as `make_share`.
        """
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        image = await self._keeper.find_made(image_id_of(share.call.id))
        if image is not None:
            return image
        record = await self._keeper.find_record(stem_of_call(command, caller, share.call), share.call.id)
        if record is None:
            return None
        await self._keeper.index_of_task(record, share.reservation)
        return record.image

    async def clear_share(self, command: GenerationCommand, share: Share) -> None:
        """Remove what a share has stored of an image that the task did not deliver, once the task has ended."""
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        await self._keeper.discard(stem_of_call(command, caller, share.call), share.call.id)

    async def drain(self, seconds: float) -> None:
        """At a stop of the process: wait for what is under way.

        What takes longer is lost, as by a kill: the sweep gives its points back.
        """
        under_way: set[asyncio.Task[Any]] = {*self._running, *self._audits}
        if under_way:
            await asyncio.wait(under_way, timeout=seconds)

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
        with self._outcome(command) as outcome:
            work = self._resolved(command, call, outcome)
            return await self._checked(work, still_wanted)

    async def _share(self, command: GenerationCommand, share: Share) -> Image:
        made = None if share.is_first else await self.find_share(command, share)
        if made is not None:
            return made
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        with self._outcome(command) as outcome:
            work = self._resolved(command, share.call, outcome)
            inspection = self._moderation.go_on(command.prompt, _context(command))
            work = replace(work, share=share, stem=stem_of_call(command, caller, share.call), inspection=inspection)
            try:
                await self._classified(work)
                answer = await self._asked(work)
                return await to_its_end(self._share_kept(work, share, answer))
            finally:
                await inspection.end()

    async def _share_kept(self, work: Work, share: Share, answer: Answer) -> Image:
        kept = await self._kept(work, answer)
        assert isinstance(kept, Kept)
        self._fail_points.reach("record_stored")
        with self._step("index"):
            await self._keeper.index_of_task(kept.record, share.reservation)
        self._fail_points.reach("indexed")
        return kept.record.image

    @contextlib.contextmanager
    def _outcome(self, command: GenerationCommand) -> Iterator["_Outcome"]:
        outcome = _Outcome()
        try:
            yield outcome
            outcome.name = "ok"
        except AppError as error:
            outcome.name = error.code
            raise
        except ClientGone:
            outcome.name = "client_gone"
            raise
        finally:
            self._metrics.generations.labels(command.mode, outcome.provider, outcome.name).inc()

    def _resolved(self, command: GenerationCommand, call: Call, outcome: "_Outcome") -> Work:
        with self._step("resolve"):
            route = self._route(command)
            outcome.provider = route.provider.name
            return Work(command, call, route, image_request(command, route))

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
        with self._step("keywords"):
            inspection = await self._moderation.inspect(work.command.prompt, _context(work.command))
        try:
            with self._step("reserve"):
                work = await self._reserved(replace(work, inspection=inspection))
            self._fail_points.reach("reserved")
            return await self._made(work, still_wanted)
        finally:
            await inspection.end()

    async def _check_keywords(self, command: GenerationCommand) -> ModerationCheck:
        with self._step("keywords"):
            return await self._moderation.check_keywords(command.prompt, _context(command))

    async def _reserved(self, work: Work) -> Work:
        """Hold the points of a call on the operator's key; any other call that keeps its image is only noted, so that
        the sweep finds what it may leave.
        """
        command, caller = work.command, work.command.caller
        if caller is None:
            return work
        stem = stem_of_call(command, caller, work.call)
        if is_metered(caller, work.route.key_source == "request"):
            mode = mode_key(command.mode, command.resolution)
            reservation = await self._quota.reserve(
                quota_identity(caller), mode, count=1, reservation_id=work.call.id, note=stem
            )
        else:
            reservation = await self._quota.hold(quota_identity(caller), reservation_id=work.call.id, note=stem)
        # What the reservation says: a try before may have begun on another second.
        return replace(work, stem=reservation.note, reservation=reservation)

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
        return Generated.of_image(
            made.record.image, made.data, lifecycle=work.route.model, replayed=False, parts=made.parts
        )

    async def _indexed(self, made: Kept) -> None:
        try:
            await self._keeper.index(made.record)
        except DependencyUnavailable as error:
            raise ImagePending(str(error)) from error

    async def _left_by_an_earlier_try(self, work: Work) -> Kept | None:
        if work.command.idempotency is None or work.stem is None:
            return None
        record = await self._keeper.find_record(work.stem, work.call.id)
        if record is None:
            return None
        return Kept(record, await self._keeper.bytes_of(record.image) if work.command.include_bytes else None)

    async def _called(self, work: Work, still_wanted: StillWanted) -> Kept | Passing:
        await self._classified(work)
        if not await still_wanted():
            raise ClientGone
        return await self._kept(work, await self._asked(work))

    async def _classified(self, work: Work) -> None:
        assert work.inspection is not None, "every prompt is inspected"
        with self._step("moderation"):
            await work.inspection.classify()

    async def _asked(self, work: Work) -> Answer:
        inspected = work.inspection is not None and work.inspection.is_over
        assert inspected, "no prompt reaches a provider before all layers have looked at it"
        request, chat = work.request, work.command.chat
        if chat is not None:
            with self._step("earlier_turns"):
                request = replace(request, turns=await chat.prepare(work.route.model, work.call.id))
        started = time.perf_counter()
        with self._step("provider"):
            result = await self._providers.make_image(work.route, request)
        duration = round(time.perf_counter() - started, 3)
        self._fail_points.reach("answered")
        return Answer(replace(result, search_sources=clean_sources(result.search_sources)), duration)

    async def _kept(self, work: Work, answer: Answer) -> Kept | Passing:
        result, duration, command = answer.result, answer.duration, work.command
        spooled = result.image
        try:
            if command.caller is None or work.stem is None:
                return Passing(result, duration, await self._keeper.read(spooled))
            data = await self._keeper.read(spooled) if command.include_bytes else None
            draft = draft_of(work, command.caller, work.stem, result, duration, self._guest_kept_ms)
            with self._step("store"):
                record = await self._keeper.store(draft, spooled, work.stem, work.charge)
            return Kept(record, data, result.parts)
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

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.step_seconds.labels(name).observe(time.perf_counter() - started)


def _context(command: GenerationCommand) -> ModerationContext:
    user_id = command.caller.user_id if command.caller else None
    return ModerationContext(user_id=user_id, request_id=command.request_id, mode=command.mode)


@dataclass
class _Outcome:
    """What is counted of a generation; a name that the caller made up must not become a time series."""

    name: str = "error"
    provider: str = "none"


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Do this whole, also when whoever waits for it is cancelled meanwhile; they are cancelled after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
