"""What became of a webhook."""

from typing import Self

from pydantic import BaseModel, Field

from api.schemas.common import Timestamp
from core.clock import utc
from services.tasks.webhooks import TaskWebhook, WebhookState
from services.webhooks.models import Attempt


class WebhookAttemptRead(BaseModel):
    """One try."""

    webhook_id: str = Field(description="of the message: the same over all tries to tell of one end of the task")
    number: int = Field(description="from 1; one that is missing broke off with its worker")
    at: Timestamp
    seconds: float = Field(description="until the receiver's status was there, or its absence certain")
    status: int | None = Field(None, description="what the receiver answered")
    error: str | None = Field(None, description="why there was no answer: a key of `errors.fields` in /api/i18n")
    answer: str = Field(description="the first 2 KB of the answer's body")

    @classmethod
    def of(cls, webhook_id: str, attempt: Attempt) -> Self:
        return cls(
            webhook_id=webhook_id,
            number=attempt.number,
            at=utc(attempt.at),
            seconds=round(attempt.seconds, 3),
            status=attempt.status,
            error=attempt.error,
            answer=attempt.answer,
        )


class WebhookRead(BaseModel):
    """Where the message about the end of a task stands, and all tries of its last rounds."""

    callback_url: str
    state: WebhookState = Field(
        description="waiting for the task to end, pending until it is delivered, failed when it is tried no more"
    )
    webhook_id: str | None = Field(None, description="of the message about how the task ended")
    next_try_at: Timestamp | None = None
    attempts: list[WebhookAttemptRead] = Field(description="the oldest first; the last 20 of each message")

    @classmethod
    def of(cls, webhook: TaskWebhook) -> Self:
        current, oldest_first = webhook.current, reversed(webhook.deliveries)
        next_try_at = None if current is None else current.next_try_at
        return cls(
            callback_url=webhook.callback_url,
            state=webhook.state,
            webhook_id=None if current is None else current.id,
            next_try_at=None if next_try_at is None else utc(next_try_at),
            attempts=[
                WebhookAttemptRead.of(delivery.id, attempt)
                for delivery in oldest_first
                for attempt in delivery.attempts
            ],
        )
