"""Images of tasks: accepted together, made one by one, each found again by whoever tries it the next time."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from core.failpoints import FailPoints
from services.generation.delivery import ImageKeeper
from services.generation.drafts import image_id_of, is_metered, stem_of_call
from services.generation.models import Accepted, Answer, GenerationCommand, Kept, Share, Work
from services.generation.request import image_request
from services.generation.steps import Steps, context_of
from services.history.models import Image
from services.moderation.service import ModerationService

Result = TypeVar("Result")


class ShareService:
    def __init__(
        self, steps: Steps, moderation: ModerationService, keeper: ImageKeeper, fail_points: FailPoints
    ) -> None:
        self._steps = steps
        self._moderation = moderation
        self._keeper = keeper
        self._fail_points = fail_points
        self._audits: set[asyncio.Task[None]] = set()

    async def accept(self, command: GenerationCommand) -> Accepted:
        """Look at a command whose images a task is to make. Raises what GenerationService would before it reserves."""
        route = self._steps.route(command)
        image_request(command, route)
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        with self._steps.timed("keywords"):
            check = await self._moderation.check_keywords(command.prompt, context_of(command))
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

    async def make(self, command: GenerationCommand, share: Share) -> Image:
        """One image of a task whose command was accepted; what an earlier try of it has left is gone on with.

        Raises as GenerationService does, and HoldGone when the task has ended meanwhile. Whoever cancels this drops the
        provider's call; what the provider has sent by then is kept and charged first.
        """
        try:
            return await self._made(command, share)
        finally:
            for reference in command.references:
                reference.remove()

    async def find(self, command: GenerationCommand, share: Share) -> Image | None:
        """The image of a share that some try of it has made; one that is stored and not indexed yet is, and charged.

        Raises HoldGone as `make`.
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

    async def clear(self, command: GenerationCommand, share: Share) -> None:
        """Remove what a share has stored of an image that the task did not deliver, once the task has ended."""
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        await self._keeper.discard(stem_of_call(command, caller, share.call), share.call.id)

    async def drain(self, seconds: float) -> None:
        """At a stop of the process: wait for audit entries that are being written."""
        if self._audits:
            await asyncio.wait(self._audits, timeout=seconds)

    async def _made(self, command: GenerationCommand, share: Share) -> Image:
        made = None if share.is_first else await self.find(command, share)
        if made is not None:
            return made
        caller = command.caller
        assert caller is not None, "a task is somebody's"
        with self._steps.outcome(command) as outcome:
            work = self._steps.resolve(command, share.call, outcome)
            inspection = self._moderation.go_on(command.prompt, context_of(command))
            work = replace(work, share=share, stem=stem_of_call(command, caller, share.call), inspection=inspection)
            try:
                await self._steps.classify(work)
                answer = await self._steps.ask(work)
                return await to_its_end(self._kept(work, share, answer))
            finally:
                await inspection.end()

    async def _kept(self, work: Work, share: Share, answer: Answer) -> Image:
        kept = await self._steps.keep(work, answer)
        assert isinstance(kept, Kept)
        self._fail_points.reach("record_stored")
        with self._steps.timed("index"):
            await self._keeper.index_of_task(kept.record, share.reservation)
        self._fail_points.reach("indexed")
        return kept.record.image


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Do this whole, also when whoever waits for it is cancelled meanwhile; they are cancelled after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
