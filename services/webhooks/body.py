"""The bytes of a webhook: what is signed is what is sent.

A body stays under 20 KB, as Standard Webhooks has it. Where it would not, `result.truncated` is true and something is
missing: long texts are shortened first, then the last of `result.results` go; the task's own route has all of it. Links
are never shortened, since a part of one opens nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from core.clock import Milliseconds, rfc3339
from core.errors import JsonValue
from services.webhooks.models import WebhookMessage

MAX_BODY_BYTES = 20_000
TEXT_CHARACTERS = 300
_LINK_STARTS = ("http://", "https://")


def render(message: WebhookMessage, now: Milliseconds, nonce: str) -> bytes:
    """One try's body. `now` and `nonce` are of this try: a receiver may refuse what is old, or what it has had."""
    whole = _fields(message, now, nonce)
    body = orjson.dumps(whole)
    if len(body) < MAX_BODY_BYTES:
        return body
    error, result = _shortened(whole["error"]), _shortened(whole["result"]) or {}
    result = _fitting(result, MAX_BODY_BYTES - len(orjson.dumps({**whole, "result": {}, "error": error})))
    body = orjson.dumps({**whole, "result": {**result, "truncated": True}, "error": error})
    if len(body) < MAX_BODY_BYTES:
        return body
    return orjson.dumps({**whole, "result": {"truncated": True}, "error": _without_details(error)})


def _fitting(result: dict[str, Any], room: int) -> dict[str, Any]:
    """With as many of the first `results` as fit into `room` bytes."""
    results = result.get("results")
    if not isinstance(results, list):
        return result
    room -= len(orjson.dumps({**result, "results": [], "truncated": True}))
    kept = 0
    for entry in results:
        room -= len(orjson.dumps(entry)) + 1
        if room <= 0:
            break
        kept += 1
    return {**result, "results": results[:kept]}


def _fields(message: WebhookMessage, now: Milliseconds, nonce: str) -> dict[str, Any]:
    return {
        "job_id": message.job_id,
        "client_job_id": message.client_job_id,
        "status": message.status,
        "result": message.result,
        "error": message.error,
        "started_at": None if message.started_at is None else rfc3339(message.started_at),
        "completed_at": rfc3339(message.completed_at),
        "execution_time_ms": message.execution_time_ms,
        "timestamp": rfc3339(now),
        "nonce": nonce,
    }


def _shortened(value: JsonValue) -> Any:
    if isinstance(value, str):
        return (
            value if len(value) <= TEXT_CHARACTERS or value.startswith(_LINK_STARTS) else value[:TEXT_CHARACTERS] + "…"
        )
    if isinstance(value, Mapping):
        return {name: _shortened(entry) for name, entry in value.items()}
    if isinstance(value, Sequence):
        return [_shortened(entry) for entry in value]
    return value


def _without_details(error: Any) -> Any:
    return error and {name: entry for name, entry in error.items() if name != "details"}
