"""Gemini over its REST API, with a lean client that decodes the image while it arrives (docs/adr/0003).

Wire format: https://ai.google.dev/api/generate-content, as read on 2026-11-22. `tests/providers/test_gemini.py` holds
each request against the one that Google's own SDK sends.
"""

import re
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any, TypedDict, TypeVar

import aiohttp
import orjson
from pydantic import SecretStr
from yarl import URL

from core.clients.proxies import proxy_for
from services.moderation.errors import ContentBlocked
from services.providers.base import AnswerPart, ImageRequest, ImageResult, Model, TextRequest
from services.providers.errors import (
    InvalidApiKey,
    NoImage,
    ProviderConnection,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from services.providers.gemini_answer import block_of, candidate_of, texts
from services.providers.gemini_request import Body, image_body
from services.providers.gemini_text import read_text, text_body
from services.providers.inline_data import AnswerTooLarge, BrokenAnswer, InlineDataReader, Payload
from services.providers.spooled import spooled_image
from services.storage.spool import Spool
from services.storage.threads import on_disk

MAX_IMAGES = 32  # thoughts included

MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_REST_BYTES = 16 * 1024 * 1024  # texts and thought signatures
MAX_ERROR_BYTES = 64 * 1024
FLUSH_BYTES = 2 * 1024 * 1024
UNWRITTEN_BYTES = 4 * 1024 * 1024
CONNECT_SECONDS = 10
MAX_REASON_CHARACTERS = 300

_URL_OR_KEY = re.compile(r"https?://\S+|AIza[\w-]+")

Result = TypeVar("Result")


class GeminiProvider:
    name = "gemini"
    needs_key = True

    def __init__(self, base_url: str, session: aiohttp.ClientSession, spool: Spool, threads: Executor) -> None:
        self._base_url = base_url
        self._session = session
        self._through, self._hop_headers = _through(proxy_for(base_url), plain=base_url.startswith("http:"))
        self._spool = spool
        self._threads = threads
        self._reading = 0

    async def make_image(self, request: ImageRequest) -> ImageResult:
        """One `generateContent` call. The key travels in a header, never in the address."""
        if request.api_key is None:
            raise ValueError("a Gemini call needs a key")
        reader = InlineDataReader(
            self._spool, max_payloads=MAX_IMAGES, max_payload_bytes=MAX_IMAGE_BYTES, max_rest_bytes=MAX_REST_BYTES
        )
        try:
            return await self._post(
                request.model,
                request.api_key,
                image_body(request),
                lambda response: self._read(response, reader, in_chat=request.turns is not None),
            )
        except BaseException:
            # Also when the call is cancelled or runs out of time: no file may stay behind.
            reader.discard()
            raise

    async def write_text(self, request: TextRequest) -> str:
        """One `generateContent` call whose answer is JSON, as the model wrote it."""
        return await self._post(request.model, request.api_key, text_body(request), read_text)

    async def probe(self, model: Model, api_key: SecretStr) -> None:
        url = f"{self._base_url}/v1beta/models/{model.id}"
        headers = {"x-goog-api-key": api_key.get_secret_value(), **self._hop_headers}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False, **self._through) as response:
                if response.status != 200:
                    raise await _http_error(response, api_key)
        except TimeoutError as error:
            raise ProviderTimeout("connecting or reading took too long") from error
        except aiohttp.ClientError as error:
            raise ProviderConnection(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._session.close()

    async def _post(
        self,
        model: Model,
        api_key: SecretStr,
        body: Body,
        read: Callable[[aiohttp.ClientResponse], Awaitable[Result]],
    ) -> Result:
        url = f"{self._base_url}/v1beta/models/{model.id}:generateContent"
        headers = {
            "x-goog-api-key": api_key.get_secret_value(),
            "content-type": "application/json",
            "content-length": str(body.size),
            **self._hop_headers,
        }
        data = body.pieces(self._threads) if body.has_files else body.whole()
        try:
            async with self._session.post(
                url, data=data, headers=headers, allow_redirects=False, **self._through
            ) as response:
                if response.status != 200:
                    raise await _http_error(response, api_key)
                return await read(response)
        except BrokenAnswer as error:
            raise ProviderUnavailable(str(error)) from error
        except AnswerTooLarge as error:
            raise ProviderUnavailable(str(error), retryable=False) from error
        except TimeoutError as error:
            raise ProviderTimeout("connecting or reading took too long") from error
        except aiohttp.ClientError as error:
            raise ProviderConnection(f"{type(error).__name__}: {error}") from error

    async def _read(self, response: aiohttp.ClientResponse, reader: InlineDataReader, *, in_chat: bool) -> ImageResult:
        """Decode as it arrives, and write two megabytes at a time in a thread: the disk may be slow, the event loop may
        not, and each hand-over to a thread costs as much as decoding a tenth of an image (docs/adr/0003). Many answers
        at once share what may wait in memory.
        """
        self._reading += 1
        try:
            async for piece, _ in response.content.iter_chunks():
                reader.feed(piece)
                if reader.unwritten >= min(FLUSH_BYTES, UNWRITTEN_BYTES // self._reading):
                    await on_disk(self._threads, reader.flush)
            return await on_disk(self._threads, lambda: _result(*reader.finish(), in_chat=in_chat))
        finally:
            self._reading -= 1


class _Through(TypedDict, total=False):
    """What a request of aiohttp's that goes through a proxy takes besides."""

    proxy: str
    proxy_headers: dict[str, str]


def _through(proxy: str | None, *, plain: bool) -> tuple[_Through, dict[str, str]]:
    """Also the headers that a plain request needs itself, where an encrypted one leaves them to its CONNECT."""
    if proxy is None:
        return {}, {}
    address = URL(proxy)
    if address.user is None:
        return {"proxy": proxy}, {}
    known = {"Proxy-Authorization": aiohttp.encode_basic_auth(address.user, address.password or "")}
    bare = str(address.with_user(None))
    return ({"proxy": bare}, known) if plain else ({"proxy": bare, "proxy_headers": known}, {})


def _result(answer: Any, payloads: list[Payload], *, in_chat: bool) -> ImageResult:
    """The image and the texts of an answer, `in_chat` its parts besides.

    Raises ProviderUnavailable where it has another shape than documented.
    """
    try:
        return _pick(answer, payloads, in_chat=in_chat)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ProviderUnavailable(f"the answer has an unknown shape: {error!r}", retryable=False) from error


def _pick(answer: Any, payloads: list[Payload], *, in_chat: bool) -> ImageResult:
    """Images that are thoughts are dropped. Works on files, so it belongs in a thread."""
    candidate, parts = candidate_of(answer)
    images = [part["inlineData"] for part in parts if "inlineData" in part and not part.get("thought")]
    image = images[-1] if images else None
    text = texts(parts, thought=False)
    if image is None:
        raise _no_image(answer, candidate.get("finishReason"), text)
    index = image["data"]
    for position, payload in enumerate(payloads):
        if position != index:
            payload.path.unlink(missing_ok=True)
    kept = payloads[index]
    return ImageResult(
        image=spooled_image(kept.path, kept.size, kept.head),
        text_response=text,
        thinking=texts(parts, thought=True),
        search_sources=_search_sources(candidate),
        parts=tuple(_answer_parts(parts, image)) if in_chat else (),
    )


def _answer_parts(parts: list[dict[str, Any]], image: Mapping[str, Any]) -> Iterator[AnswerPart]:
    """What the next turn gives back: all but thoughts, and images other than the one that is kept."""
    for part in parts:
        if part.get("thought"):
            continue
        signature = part.get("thoughtSignature")
        if signature is not None and not isinstance(signature, str):
            raise TypeError("thoughtSignature")
        if part.get("inlineData") is image:
            yield AnswerPart(None, signature)
        elif "text" in part or (signature and "inlineData" not in part):
            yield AnswerPart(part.get("text", ""), signature)


def _no_image(answer: Mapping[str, Any], finish_reason: str | None, text: str | None) -> ContentBlocked | NoImage:
    return block_of(answer) or NoImage(text, finish_reason)


def _search_sources(candidate: Mapping[str, Any]) -> str | None:
    entry = (candidate.get("groundingMetadata") or {}).get("searchEntryPoint") or {}
    content = entry.get("renderedContent")
    return content if isinstance(content, str) else None


async def _http_error(response: aiohttp.ClientResponse, api_key: SecretStr) -> ProviderError:
    """What an HTTP status other than 200 means. The body is read for its reason, at most 64 KiB of it."""
    status, body = response.status, bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    google_status, message, reasons = _google_error(bytes(body))
    google_status, message = (_cleaned(text, api_key.get_secret_value()) for text in (google_status, message))
    private = f"HTTP {status} {google_status}: {message}"
    if status in {401, 403} or "API_KEY_INVALID" in reasons:
        return InvalidApiKey(private)
    if status == 429:
        return ProviderRateLimited(private)
    if status == 503:
        return ProviderOverloaded(private)
    if status in {408, 504}:
        return ProviderTimeout(private)
    if status >= 500:
        # Only 502 among the rest is known to pass by itself (SPEC section 11).
        return ProviderUnavailable(private, retryable=status == 502)
    if status >= 400:
        return ProviderRejected(message or google_status)
    return ProviderUnavailable(private, retryable=False)


def _cleaned(message: str, key: str) -> str:
    """One short line without addresses and without the key, whatever form it has, for callers and for the log."""
    for secret in (key, urllib.parse.quote(key, safe="")):
        message = message.replace(secret, "…")
    return " ".join(_URL_OR_KEY.sub("…", message).split())[:MAX_REASON_CHARACTERS]


def _google_error(body: bytes) -> tuple[str, str, list[str]]:
    """`error.status`, `error.message` and the reasons in `error.details` of Google's error body."""
    try:
        error = orjson.loads(body)["error"]
        details = error.get("details") or []
        return str(error.get("status", "")), str(error.get("message", "")), [str(d.get("reason")) for d in details]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "", "", []
