"""One try to tell a receiver how a task ended. When to try again is `RetrySchedule`'s, who tries is the worker's."""

import secrets
import time
from collections.abc import Callable

from core.clients.http import GuardedHttp
from core.clients.url_guard import UrlFailed
from core.clock import Milliseconds, now_ms
from core.logging import get_logger
from services.webhooks.body import render
from services.webhooks.models import Attempt, WebhookMessage, WebhookTarget
from services.webhooks.signature import signature_headers

NONCE_BYTES = 16
USER_AGENT = "nano-banana-lab-webhooks"

log = get_logger(__name__)


class WebhookSender:
    def __init__(self, http: GuardedHttp, now: Callable[[], Milliseconds] = now_ms) -> None:
        self._http = http
        self._now = now

    async def deliver(self, target: WebhookTarget, message: WebhookMessage, number: int) -> Attempt:
        """Try once and say what came of it; `number` counts the tries of a message from 1.

        Each try has a time and a nonce of its own and is signed anew; `webhook-id` stays.
        """
        began, started = self._now(), time.monotonic()
        body = render(message, began, secrets.token_hex(NONCE_BYTES))
        try:
            delivery = await self._http.post(target.url, body, _headers(target, message, began, body))
        except UrlFailed as error:
            log.info("webhook not delivered", job_id=message.job_id, number=number, reason=str(error))
            return Attempt(number, began, time.monotonic() - started, error=error.reason)
        return Attempt(
            number,
            began,
            delivery.seconds,
            status=delivery.status,
            answer=delivery.answer,
            retry_after=delivery.retry_after,
        )


def _headers(target: WebhookTarget, message: WebhookMessage, began: Milliseconds, body: bytes) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "x-job-id": message.job_id,
        "x-status": message.status,
    }
    if target.secret is not None:
        headers |= signature_headers(target.secret, message.id, began // 1000, body)
    return headers
