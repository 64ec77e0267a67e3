"""What is told to whom, and what became of it."""

from dataclasses import dataclass

from pydantic import SecretStr

from core.clock import Milliseconds
from core.errors import JsonValue


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
