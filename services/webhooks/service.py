"""Webhooks as those see them who are told by them: what is taken, where it stands, sent again."""

import httpx
from sqlalchemy import Connection

from core.clients.database import Database
from core.clients.http import GuardedHttp
from core.clock import Milliseconds, now_ms
from core.ids import derived_id
from services.webhooks import store
from services.webhooks.models import Delivery, WebhookTarget
from services.webhooks.signature import check_secret

URL_FIELD, SECRET_FIELD = "callback_url", "webhook_secret"
SHOWN_ROUNDS = 10


class WebhookService:
    """What belongs into somebody else's transaction takes their connection."""

    def __init__(self, database: Database, http: GuardedHttp) -> None:
        self._database = database
        self._http = http

    async def check(self, target: WebhookTarget) -> None:
        """For the moment when a caller names a receiver. Raises ValidationFailed, which names the field."""
        if target.secret is not None:
            check_secret(target.secret, SECRET_FIELD)
        await self._http.check_url(target.url, URL_FIELD)

    async def of_task(self, task_id: str) -> list[Delivery]:
        """Of its last rounds that have ended, the newest first."""
        return await self._database.read(lambda connection: store.of_task(connection, task_id, SHOWN_ROUNDS))

    async def send_again(self, task_id: str, round_: int) -> bool:
        """The message about a round, at once, and the whole schedule if that fails. False: it is not to be told."""
        delivery_id, now = _id(task_id, round_), now_ms()
        return await self._database.write(lambda connection: store.send_again(connection, delivery_id, now))

    @staticmethod
    def announce(
        connection: Connection, task_id: str, round_: int, user_id: str, callback_url: str, now: Milliseconds
    ) -> None:
        """In the transaction that ends a round of a task."""
        delivery = Delivery(
            id=_id(task_id, round_),
            task_id=task_id,
            round=round_,
            user_id=user_id,
            host=httpx.URL(callback_url).host,
            state="pending",
            next_try_at=now,
            first_at=None,
            tries=0,
            attempts=(),
            claim=None,
            lease_until=None,
        )
        store.add(connection, delivery)

    @staticmethod
    def supersede(connection: Connection, task_id: str) -> None:
        """In the transaction that begins a new round: how those before have ended is not told any more."""
        store.supersede(connection, task_id)

    @staticmethod
    def forget(connection: Connection, task_id: str) -> None:
        """In the transaction that forgets a task."""
        store.forget(connection, task_id)

    @staticmethod
    def hand_over(connection: Connection, user_id: str, heir: str) -> None:
        """In the transaction that gives somebody's tasks to another."""
        store.hand_over(connection, user_id, heir)


def _id(task_id: str, round_: int) -> str:
    return derived_id("msg", task_id, round_)
