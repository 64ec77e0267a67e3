"""The stand-in's routes: which call gets which answer, the control endpoints, and the counters."""

import asyncio
import gzip
import re
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from benchmarks import standin_answers as answers
from benchmarks import standin_checks as checks
from benchmarks.standin_behaviour import Control, Step
from benchmarks.standin_http import Connection, Reply, Request
from benchmarks.standin_images import Picture

_CALL = re.compile(r"^/v1(?:beta)?/models(?:/([^/:]+))?(?::(\w+))?$")
_KEPT_REQUESTS = 5_000
_HUGE_SLICE = 1 << 20
_JSON_TYPE = "application/json; charset=UTF-8"


@dataclass(slots=True)
class Counters:
    """`waiting` calls are being answered now, `peak_waiting` were at most; `dropped` lost their client meanwhile."""

    total: int = 0
    answered: int = 0
    waiting: int = 0
    peak_waiting: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Ledger:
    """What came in of one kind of calls: of text models, or of all else."""

    counters: Counters = field(default_factory=Counters)
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_REQUESTS))

    def clear(self) -> None:
        """Calls that are being answered still are."""
        self.requests.clear()
        waiting = self.counters.waiting
        self.counters = Counters(waiting=waiting, peak_waiting=waiting)


class Standin:
    """State shared by all connections: what to do, what came in, and the pictures already made."""

    def __init__(self) -> None:
        self.control = Control()
        self.ledgers = {"": Ledger(), "text_": Ledger()}
        self.connections = 0
        self._pictures: dict[Picture, asyncio.Task[answers.EncodedPicture]] = {}

    def connected(self, change: int) -> None:
        self.connections += change

    async def serve(self, request: Request, connection: Connection) -> None:
        """Answers one request; cancelled when its client is gone."""
        if request.path.startswith("/_"):
            await connection.write(self._administer(request))
            return
        body = _parse(request.body)
        ledger = self.ledgers["text_" if _is_text(request, body) else ""]
        ledger.counters.total += 1
        ledger.counters.waiting += 1
        ledger.counters.peak_waiting = max(ledger.counters.peak_waiting, ledger.counters.waiting)
        ledger.requests.append(_record(request, body))
        try:
            reply = await self._reply(request, body)
            if reply is None:
                connection.reset()
            else:
                await connection.write(reply)
        except asyncio.CancelledError:
            ledger.counters.dropped += 1
            raise
        finally:
            ledger.counters.waiting -= 1
        ledger.counters.answered += 1

    async def _reply(self, request: Request, body: Any) -> Reply | None:
        """The answer to a call of the API; None means reset the connection."""
        try:
            checks.check_key(request.headers.get("x-goog-api-key"), self.control.bad_keys)
            return await self._call(request, body)
        except checks.Refused as refused:
            return _json(refused.status, refused.body)

    async def _call(self, request: Request, body: Any) -> Reply | None:
        matched = _CALL.match(request.path)
        model, verb = matched.groups() if matched else (None, None)
        if matched is None or request.method != ("POST" if verb else "GET"):
            raise checks.Refused(404, "The requested URL was not found on this server.")
        if model is None:
            return _json(200, orjson.dumps({"models": [_model(name) for name in checks.MODELS]}))
        checks.check_model(model)
        if verb is None:
            return _json(200, orjson.dumps(_model(model)))
        if verb == "countTokens":
            return _json(200, orjson.dumps({"totalTokens": answers.count_tokens(body or {})}))
        if verb != "generateContent":
            raise checks.Refused(404, f"Unknown method {verb}.")
        return await self._generate(request, checks.check_body(body, model), model)

    async def _generate(self, request: Request, body: checks.Json, model: str) -> Reply | None:
        is_image = checks.wants_image(body, model)
        wanted = checks.asked_picture(body, Step()) if is_image else None
        step = (self.control.image if is_image else self.control.text).next()
        if step.delay_seconds:
            await asyncio.sleep(step.delay_seconds)
        if step.mode == "hang":
            await asyncio.Event().wait()
        if step.mode == "reset":
            return None
        special = _special(step, request)
        if special is not None:
            return special
        if wanted is None:
            pieces = answers.text_answer(body, step, model)
        else:
            picture = await self._picture(checks.asked_picture(body, step))
            pieces = answers.image_answer(body, step, picture, model)
        reply = Reply(200, pieces, {"Content-Type": _JSON_TYPE}, chunked="chunked" in step.formats)
        return _shape(reply, step)

    async def _picture(self, picture: Picture) -> answers.EncodedPicture:
        if picture not in self._pictures:
            # In a thread, because a 4K picture takes seconds; one task each, however many requests wait for it.
            self._pictures[picture] = asyncio.create_task(asyncio.to_thread(answers.EncodedPicture.render, picture))
        return await asyncio.shield(self._pictures[picture])

    def _administer(self, request: Request) -> Reply:
        """The control endpoints, which aren't counted and need no key."""
        match request.method, request.path:
            case "POST", "/_control":
                try:
                    self.control.apply(_parse(request.body) or {})
                except (TypeError, ValueError) as wrong:
                    return _json(400, orjson.dumps({"error": str(wrong)}))
                return _json(200, b"{}")
            case "GET", "/_requests" | "/_text_requests":
                return _json(200, orjson.dumps(list(self._ledger(request).requests)))
            case "DELETE", "/_requests":
                for ledger in self.ledgers.values():
                    ledger.clear()
                return _json(200, b"{}")
            case "GET", "/_stats" | "/_text_stats":
                counters = asdict(self._ledger(request).counters)
                return _json(200, orjson.dumps(counters | {"connections": self.connections}))
        return _json(404, b"{}")

    def _ledger(self, request: Request) -> Ledger:
        return self.ledgers["text_" if request.path.startswith("/_text") else ""]


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None


def _is_text(request: Request, body: Any) -> bool:
    """Whether this asks a text model for something."""
    matched = _CALL.match(request.path)
    model, verb = matched.groups() if matched else (None, None)
    return verb == "generateContent" and isinstance(body, dict) and not checks.wants_image(body, model or "")


def _record(request: Request, body: Any) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers,
        "body": body,
        "time": time.time(),
    }


def _json(status: int, body: bytes) -> Reply:
    return Reply(status, [body], {"Content-Type": _JSON_TYPE})


def _model(name: str) -> checks.Json:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "inputTokenLimit": 131072,
        "outputTokenLimit": 32768,
        "supportedGenerationMethods": ["generateContent", "countTokens", "batchGenerateContent"],
    }


def _special(step: Step, request: Request) -> Reply | None:
    """Answers that aren't a generation: errors, pages, redirects, floods."""
    if step.mode == "error":
        message = step.message.replace("{key}", request.headers.get("x-goog-api-key", ""))
        reply = _json(step.status, checks.error_body(step.status, message, step.reason, step.google_status))
        if step.retry_after:
            reply.headers["Retry-After"] = step.retry_after
        return reply
    if step.mode == "html":
        page = b"<!doctype html><title>Sign in to this network</title><p>Sign in to go on."
        return Reply(200, [page], {"Content-Type": "text/html; charset=utf-8"})
    if step.mode == "redirect":
        return Reply(302, [b""], {"Location": step.location})
    if step.mode == "huge":
        blank = b" " * _HUGE_SLICE
        pieces = [blank] * (step.huge_bytes // _HUGE_SLICE) + [blank[: step.huge_bytes % _HUGE_SLICE]]
        reply = Reply(200, pieces, {"Content-Type": _JSON_TYPE}, chunked="chunked" in step.formats)
        if "gzip" in step.formats:
            reply.pieces = [gzip.compress(b" " * step.huge_bytes, 1)]
            reply.headers["Content-Encoding"] = "gzip"
        return reply
    return None


def _shape(reply: Reply, step: Step) -> Reply:
    """The rest of a step that touches how the body travels, not what it says."""
    if "gzip" in step.formats:
        reply.headers["Content-Encoding"] = "gzip"
    if step.mode == "broken_json":
        whole = b"".join(reply.pieces)
        reply.pieces = [whole[: len(whole) * 2 // 3]]
    reply.cut = step.mode == "half"
    reply.seconds = step.drip_seconds if step.mode == "drip" else 0.0
    return reply
