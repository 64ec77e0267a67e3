"""The steps of the pipeline that an image of a call and one of a task have in common."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.errors import AppError, Unauthorized
from core.failpoints import FailPoints
from core.metrics import Metrics
from core.setting_groups import StorageSettings
from services.generation.delivery import ImageKeeper
from services.generation.drafts import draft_of
from services.generation.errors import ClientGone
from services.generation.models import CAPABILITIES, Answer, GenerationCommand, Kept, Passing, Work
from services.generation.request import image_request
from services.generation.sources import clean_sources
from services.idempotency import Call
from services.moderation.models import ModerationContext
from services.providers.service import ProviderService, Route


@dataclass
class Outcome:
    """What is counted of a generation; a name that the caller made up must not become a time series."""

    name: str = "error"
    provider: str = "none"


class Steps:
    def __init__(
        self,
        providers: ProviderService,
        keeper: ImageKeeper,
        settings: StorageSettings,
        metrics: Metrics,
        fail_points: FailPoints,
        *,
        trial_enabled: bool,
    ) -> None:
        self._providers = providers
        self._keeper = keeper
        self._guest_kept_ms = settings.guest_retention_hours * 3600 * 1000
        self._metrics = metrics
        self._fail_points = fail_points
        self._trial_enabled = trial_enabled

    @contextlib.contextmanager
    def outcome(self, command: GenerationCommand) -> Iterator[Outcome]:
        """Count what becomes of a generation."""
        outcome = Outcome()
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

    def resolve(self, command: GenerationCommand, call: Call, outcome: Outcome) -> Work:
        """Provider, model, key, and what the model can do, before anything is spent."""
        with self.timed("resolve"):
            route = self.route(command)
            outcome.provider = route.provider.name
            return Work(command, call, route, image_request(command, route))

    def route(self, command: GenerationCommand) -> Route:
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

    async def classify(self, work: Work) -> None:
        """Moderation by a model. Raises ContentBlocked."""
        assert work.inspection is not None, "every prompt is inspected"
        with self.timed("moderation"):
            await work.inspection.classify()

    async def ask(self, work: Work) -> Answer:
        """The provider's call, with its retries."""
        inspected = work.inspection is not None and work.inspection.is_over
        assert inspected, "no prompt reaches a provider before all layers have looked at it"
        request, chat = work.request, work.command.chat
        if chat is not None:
            with self.timed("earlier_turns"):
                request = replace(request, turns=await chat.prepare(work.route.model, work.call.id))
        started = time.perf_counter()
        with self.timed("provider"):
            result = await self._providers.make_image(work.route, request)
        duration = round(time.perf_counter() - started, 3)
        self._fail_points.reach("answered")
        return Answer(replace(result, search_sources=clean_sources(result.search_sources)), duration)

    async def keep(self, work: Work, answer: Answer) -> Kept | Passing:
        """Store the image and its record; what nobody keeps is read into memory."""
        result, duration, command = answer.result, answer.duration, work.command
        spooled = result.image
        try:
            if command.caller is None or work.stem is None:
                return Passing(result, duration, await self._keeper.read(spooled))
            data = await self._keeper.read(spooled) if command.include_bytes else None
            draft = draft_of(work, command.caller, work.stem, result, duration, self._guest_kept_ms)
            with self.timed("store"):
                record = await self._keeper.store(draft, spooled, work.stem, work.charge)
            return Kept(record, data, result.parts)
        finally:
            spooled.remove()

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure how long a step takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.step_seconds.labels(name).observe(time.perf_counter() - started)


def context_of(command: GenerationCommand) -> ModerationContext:
    user_id = command.caller.user_id if command.caller else None
    return ModerationContext(user_id=user_id, request_id=command.request_id, mode=command.mode)
