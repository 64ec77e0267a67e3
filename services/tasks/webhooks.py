"""What is told of a task by its webhook, and where that stands."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from core.clients.database import Database
from core.clock import DAY_MS, now_ms
from core.errors import JsonValue
from core.security import Vault
from services.history.links import LinkService
from services.idempotency import IdempotencyKey, IdempotencyService
from services.tasks import store
from services.tasks.errors import NoCallback, WrongState
from services.tasks.models import ItemResult, Submitted, Task, TaskError
from services.tasks.runner import vault_context
from services.tasks.service import TaskService
from services.webhooks.models import Delivery, SecretGone, Told, WebhookMessage, WebhookTarget
from services.webhooks.service import WebhookService

# Waiting: for the task to end.
WebhookState = Literal["waiting", "pending", "delivered", "failed"]


@dataclass(frozen=True)
class TaskWebhook:
    """Where the webhook of a task stands. `current`: the message about how it has ended; None while it has not.

    `deliveries`: the messages about its rounds, the newest first.
    """

    callback_url: str
    current: Delivery | None
    deliveries: tuple[Delivery, ...]

    @property
    def state(self) -> WebhookState:
        if self.current is None or self.current.state == "superseded":
            return "waiting"
        return self.current.state


class TaskWebhooks:
    """`base_url`: what links start with where there is no request to take it from."""

    def __init__(
        self,
        database: Database,
        tasks: TaskService,
        webhooks: WebhookService,
        idempotency: IdempotencyService,
        vault: Vault,
        links: LinkService,
        base_url: str,
    ) -> None:
        self._database = database
        self._tasks = tasks
        self._webhooks = webhooks
        self._idempotency = idempotency
        self._vault = vault
        self._links = links
        self._base_url = base_url

    async def of(self, task: Task) -> TaskWebhook | None:
        """None for a task without a callback."""
        if task.callback_url is None:
            return None
        deliveries = await self._webhooks.of_task(task.id)
        current = next((delivery for delivery in deliveries if delivery.round == task.round), None)
        return TaskWebhook(task.callback_url, current, tuple(deliveries))

    async def redeliver(self, user_id: str, task_id: str, key: IdempotencyKey | None) -> Submitted:
        """Tell once more how a task has ended: at once, and by the whole schedule again if that fails; once under one
        Idempotency-Key, unless a process dies over it.

        Raises NotFound, WrongState for one that goes on, NoCallback, Conflict and IdempotencyMismatch.
        """
        if key is None:
            return Submitted(await self._redelivered(user_id, task_id))
        async with self._idempotency.claim(key) as call:
            if call.state == "done":
                return Submitted(await self._tasks.get(user_id, task_id), replayed=True)
            return Submitted(await self._redelivered(user_id, task_id))

    async def _redelivered(self, user_id: str, task_id: str) -> Task:
        task = await self._tasks.get(user_id, task_id)
        if not task.has_ended:
            raise WrongState(task.status)
        if task.callback_url is None:
            raise NoCallback
        if not await self._webhooks.send_again(task.id, task.round):
            raise WrongState((await self._tasks.get(user_id, task_id)).status)  # it was tried again just now
        return task

    async def message(self, delivery: Delivery) -> Told | None:
        """For WebhookCourier: see `Messages`."""
        task = await self._database.read(lambda connection: store.get_task(connection, delivery.task_id))
        if task is None or task.round != delivery.round or task.callback_url is None or task.completed_at is None:
            return None
        started_at = task.started_at
        message = WebhookMessage(
            id=delivery.id,
            job_id=task.id,
            client_job_id=task.client_job_id,
            status=task.status,
            result=self._result(task),
            error=None if task.error is None else _told_of_error(task.error),
            started_at=started_at,
            completed_at=task.completed_at,
            execution_time_ms=None if started_at is None else task.completed_at - started_at,
        )
        return Told(WebhookTarget(task.callback_url, self._secret(task)), message)

    def _secret(self, task: Task) -> SecretStr | None:
        if task.webhook_secret is None:
            return None
        secret = self._vault.open(task.webhook_secret, vault_context(task.id))
        if secret is None:
            raise SecretGone(task.id)
        return secret

    def _result(self, task: Task) -> dict[str, JsonValue]:
        # Not rounded, as links in answers are: what stands in a message is promised to live a day.
        expires_at = (now_ms() + DAY_MS) // 1000
        results = [self._told_of(result, expires_at) for result in task.results]
        return {"total": task.total, "completed": task.completed, "results": results}

    def _told_of(self, result: ItemResult, expires_at: int) -> dict[str, JsonValue]:
        if result.error is not None:
            return {"index": result.index, "status": "failed", "error": _told_of_error(result.error)}
        data: dict[str, Any] = dict(result.data or {})
        image_url, thumbnail_url = self._links.urls(self._base_url, data["id"], data["key"], expires_at)
        facts = {name: data[name] for name in ("mime_type", "width", "height", "duration")}
        return {
            "index": result.index,
            "status": "completed",
            "image_url": image_url,
            "thumbnail_url": thumbnail_url,
            **facts,
            "history_id": data["id"] if data["listed"] else None,
        }


def _told_of_error(error: TaskError) -> dict[str, JsonValue]:
    """As answers show it, but for the message: nobody says here in which language."""
    return {"code": error.code, "type": error.type, "details": error.details}
