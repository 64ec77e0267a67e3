"""The part of the worker that delivers webhooks: it looks for what is due, claims it, tries it, and writes that down.

Many tries go on side by side, a few for each user and each receiver: who hangs holds up nobody else, and who has
thousands to tell leaves room for the others.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial

from core.clients.database import Database
from core.clients.http import TOTAL_SECONDS
from core.clients.url_guard import Resolver
from core.clock import now_ms
from core.errors import AppError
from core.ids import new_id
from core.logging import get_logger
from core.metrics import Metrics
from services.webhooks import store
from services.webhooks.models import Attempt, Delivery, DeliveryState, Messages, SecretGone
from services.webhooks.schedule import RetrySchedule
from services.webhooks.sender import WebhookSender
from services.webhooks.shares import Shares

LOOK_SECONDS = 0.5
# More than a try may take, with what is read before it and written after it.
LEASE_MS = 30_000
# What must be left of a claim when the sending begins: else somebody else might be sending before it is over.
TRY_MS = int(TOTAL_SECONDS * 1000) + 2_000

log = get_logger(__name__)


@dataclass(frozen=True)
class DeliveryTerms:
    """`resolver` None: the system's. `try_seconds`: longest that one try may take."""

    schedule: RetrySchedule = field(default_factory=RetrySchedule)
    resolver: Resolver | None = None
    try_seconds: float = TOTAL_SECONDS


class WebhookCourier:
    """One in each worker."""

    def __init__(
        self,
        database: Database,
        messages: Messages,
        sender: WebhookSender,
        schedule: RetrySchedule,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._messages = messages
        self._sender = sender
        self._schedule = schedule
        self._metrics = metrics
        self._under_way: dict[asyncio.Task[None], Delivery] = {}
        self._has_room = asyncio.Event()

    async def run(self) -> None:
        """For ever: try what is due."""
        while True:
            self._has_room.clear()
            try:
                await self._take_what_is_due()
            except AppError as error:
                log.warning("webhooks wait", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._has_room.wait()

    async def stop(self, seconds: float) -> None:
        """Once `run` is over: let the tries that are under way end, and leave those that take longer to others."""
        if not self._under_way:
            return
        _, slow = await asyncio.wait(self._under_way, timeout=seconds)
        broken_off = [self._under_way[task] for task in slow]
        for task in slow:
            task.cancel()
        if not slow:
            return
        await asyncio.wait(slow)
        try:
            await self._let_go(*broken_off)
        except AppError as error:
            log.warning("claims of webhooks run out by themselves", reason=str(error))

    async def _take_what_is_due(self) -> None:
        while True:
            shares = Shares(self._under_way.values())
            found = await self._database.read(partial(store.due, now=now_ms(), full=shares.full(), limit=shares.room))
            chosen = [delivery for delivery in found if shares.take(delivery)]
            if not chosen:
                return
            for delivery in await self._claim(chosen):
                task = asyncio.create_task(self._try(delivery))
                self._under_way[task] = delivery
                task.add_done_callback(self._ended)

    async def _claim(self, chosen: list[Delivery]) -> list[Delivery]:
        now = now_ms()
        claimed = await self._database.write(
            lambda connection: [
                store.claim(connection, delivery, new_id("try"), now, now + LEASE_MS) for delivery in chosen
            ]
        )
        return [delivery for delivery in claimed if delivery is not None]

    async def _try(self, delivery: Delivery) -> None:
        try:
            attempt = await self._attempt(delivery)
            if attempt is None:
                await self._let_go(delivery)
            else:
                await self._record(delivery, attempt)
        except AppError as error:
            # The claim runs out, and whoever takes it then tries again, under the same `webhook-id`.
            log.warning("try of a webhook is left open", webhook_id=delivery.id, reason=str(error))

    async def _attempt(self, delivery: Delivery) -> Attempt | None:
        """None: it was not tried, since there is nothing to tell any more, or too little time left of the claim."""
        try:
            told = await self._messages.message(delivery)
        except SecretGone:
            return Attempt(delivery.tries, now_ms(), 0.0, error="webhook_secret_gone")
        if told is None or (delivery.lease_until or 0) - now_ms() < TRY_MS:
            return None
        try:
            return await self._sender.deliver(told.target, told.message, delivery.tries)
        except Exception as error:
            # It counts as a try, of which there are ten at most; left open it would come back for ever.
            log.error("try of a webhook failed by a defect", webhook_id=delivery.id, exc_info=error)
            return Attempt(delivery.tries, now_ms(), 0.0, error="webhook_defect")

    async def _record(self, delivery: Delivery, attempt: Attempt) -> None:
        now = now_ms()
        next_try_at = self._schedule.next_try(delivery.first_at or attempt.at, attempt, now)
        state: DeliveryState = "pending" if next_try_at is not None else "delivered" if attempt.succeeded else "failed"
        after = await self._database.write(
            lambda connection: store.record(connection, delivery, attempt, state, next_try_at)
        )
        outcome = _outcome(attempt)
        self._metrics.webhook_tries.labels(outcome).inc()
        log.info(
            "webhook tried",
            webhook_id=delivery.id,
            task_id=delivery.task_id,
            number=attempt.number,
            outcome=outcome,
            state=after,
            seconds=round(attempt.seconds, 3),
        )

    async def _let_go(self, *claimed: Delivery) -> None:
        await self._database.write(lambda connection: store.let_go(connection, claimed))

    def _ended(self, task: asyncio.Task[None]) -> None:
        delivery = self._under_way[task]
        somebody_may_wait = not Shares(self._under_way.values()).fits(delivery)
        del self._under_way[task]
        if somebody_may_wait:
            self._has_room.set()


def _outcome(attempt: Attempt) -> str:
    """As metrics and the log name it: `2xx` and the like, `gone`, or why there was no answer."""
    if attempt.status is None:
        return attempt.error or "unknown"
    return "gone" if attempt.status == 410 else f"{attempt.status // 100}xx"
