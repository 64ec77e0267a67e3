"""The one pipeline that every image goes through (docs/architecture.md has the walk).

resolve → keywords → reserve → AI moderation → provider → store bytes and record → index and charge → commit → answer
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from redis.exceptions import RedisError

from core.clock import now_ms
from core.errors import DependencyUnavailable, NotFound
from core.failpoints import FailPoints
from core.ids import derived_id, new_id
from core.logging import get_logger
from core.metrics import Metrics
from services.generation.delivery import ImageKeeper, LeftBehind
from services.generation.drafts import is_metered, quota_identity, stem_of_call
from services.generation.errors import ClientGone, ImagePending
from services.generation.models import (
    Generated,
    GenerationCommand,
    Kept,
    Passing,
    Work,
)
from services.generation.steps import Steps, context_of
from services.idempotency import KEPT_SECONDS, Call, IdempotencyKey, IdempotencyService
from services.moderation.service import ModerationService
from services.quota.models import Reservation, mode_key
from services.quota.service import QuotaService

log = get_logger(__name__)

StillWanted = Callable[[], Awaitable[bool]]


class GenerationService:
    def __init__(
        self,
        steps: Steps,
        moderation: ModerationService,
        quota: QuotaService,
        keeper: ImageKeeper,
        idempotency: IdempotencyService,
        metrics: Metrics,
        fail_points: FailPoints,
    ) -> None:
        self._steps = steps
        self._moderation = moderation
        self._quota = quota
        self._keeper = keeper
        self._idempotency = idempotency
        self._metrics = metrics
        self._fail_points = fail_points
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
        with self._steps.outcome(command) as outcome:
            work = self._steps.resolve(command, call, outcome)
            return await self._checked(work, still_wanted)

    async def _checked(self, work: Work, still_wanted: StillWanted) -> Generated:
        with self._steps.timed("keywords"):
            inspection = await self._moderation.inspect(work.command.prompt, context_of(work.command))
        try:
            with self._steps.timed("reserve"):
                work = await self._reserved(replace(work, inspection=inspection))
            self._fail_points.reach("reserved")
            return await self._made(work, still_wanted)
        finally:
            await inspection.end()

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
        with self._steps.timed("index"):
            await self._indexed(made)
        self._fail_points.reach("indexed")
        with self._steps.timed("commit"):
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
        await self._steps.classify(work)
        if not await still_wanted():
            raise ClientGone
        return await self._steps.keep(work, await self._steps.ask(work))

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
