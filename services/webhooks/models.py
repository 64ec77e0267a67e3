"""What is told to whom, and what became of it."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import SecretStr

from core.clock import Milliseconds
from core.errors import JsonValue

# Superseded: the task was tried again meanwhile, so that how this round of it ended is not worth telling any more.
DeliveryState = Literal["pending", "delivered", "failed", "superseded"]


@dataclass(frozen=True)
class WebhookTarget:
    """`secret` None: nothing is signed. Whoever keeps it keeps it encrypted."""

    url: str
    secret: SecretStr | None = None


@dataclass(frozen=True)
class WebhookMessage:
    """How a task ended. `id` is the `webhook-id`, the same over all tries of one message.

    `result` and `error` are what the task's own route shows, with links in place of images; what does not fit is cut
    (`services/webhooks/body.py`).
    """

    id: str
    job_id: str
    client_job_id: str | None
    status: str
    result: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None
    started_at: Milliseconds | None
    completed_at: Milliseconds
    execution_time_ms: int | None


@dataclass(frozen=True)
class Attempt:
    """One try. `number` counts from 1, `at` is when it began, `seconds` until its status or failure.

    `status` is the receiver's, and None where there was none; `error` says why then, as an i18n key
    `errors.fields.{error}`. `answer`: the first 2 KB of what the receiver said. `retry_after`: seconds it asked for.
    """

    number: int
    at: Milliseconds
    seconds: float
    status: int | None = None
    error: str | None = None
    answer: str = ""
    retry_after: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def ended(self) -> bool:
        """The receiver wants no more: it has the message, or is gone for good (410)."""
        return self.succeeded or self.status == 410


@dataclass(frozen=True)
class Delivery:
    """One row of `webhook_deliveries`: the message about one round of a task. `id` is its `webhook-id`.

    `host`: the receiver's. `next_try_at` None: nothing more is to be tried. `first_at`: when the first try of the
    schedule that is under way began; None before it. `tries` counts those that were begun, the last of which are kept
    in `attempts`; one that is missing there broke off with its worker. `claim`: the try under way, until `lease_until`.
    """

    id: str
    task_id: str
    round: int
    user_id: str
    host: str
    state: DeliveryState
    next_try_at: Milliseconds | None
    first_at: Milliseconds | None
    tries: int
    attempts: tuple[Attempt, ...]
    claim: str | None
    lease_until: Milliseconds | None


@dataclass(frozen=True)
class Told:
    """Who is to be told, and what."""

    target: WebhookTarget
    message: WebhookMessage


class SecretGone(Exception):
    """The secret was sealed with a SECRET_KEY that is gone, and nothing is told unsigned that was to be signed."""


class Messages(Protocol):
    """Where what is told comes from: those who ended it."""

    async def message(self, delivery: Delivery) -> Told | None:
        """As it is now, with fresh links. None: there is nothing to tell any more.

        Raises SecretGone and DependencyUnavailable.
        """
