"""A message to tell, and a receiver's checks of it, each by means that are not ours."""

import hashlib
import hmac
import json
from typing import Any

from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from core.clock import now_ms
from core.errors import JsonValue
from services.webhooks.models import WebhookMessage
from tests.support.receiver import Received

PLAIN_SECRET = SecretStr("schlüssel-of-the-tests")
STANDARD_SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
LINK = "https://images.example/i/" + "x" * 400


def message(
    result: dict[str, JsonValue] | None = None, error: dict[str, JsonValue] | None = None, status: str = "completed"
) -> WebhookMessage:
    now = now_ms()
    return WebhookMessage(
        id="msg_01", job_id="task_01", client_job_id="mine-7", status=status, result=result, error=error,
        started_at=now - 2000, completed_at=now, execution_time_ms=2000,
    )  # fmt: skip


def whole_result(results: int, text: str = "a lighthouse") -> dict[str, JsonValue]:
    entries: list[JsonValue] = [{"index": index, "image_url": LINK, "text_response": text} for index in range(results)]
    return {"total": results, "completed": results, "results": entries}


def checked(request: Received, secret: SecretStr) -> dict[str, Any]:
    """The body of a delivery whose signatures are good."""
    key = secret.get_secret_value()
    expected = hmac.new(key.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-webhook-signature"] == expected
    if key.startswith("whsec_"):
        Webhook(key).verify(request.body, request.headers)
    body: dict[str, Any] = json.loads(request.body)
    return body
