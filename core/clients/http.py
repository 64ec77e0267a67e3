"""The only door to URLs that callers give us: where they may lead is checked, and connected to as checked.

Proxies of the environment are not used here: a proxy would look the host up once more and connect to whatever it
finds. Nothing is kept between two calls, neither connections nor cookies, since they belong to different callers.
"""

import asyncio
import contextlib
import email.utils
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import httpx

from core.clients.url_guard import LookupFailing, Resolver, SystemResolver, Target, UrlFailed, UrlGuard

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 20.0  # Standard Webhooks says 15 to 30
ANSWER_SECONDS = 5.0  # of them, for the beginning of a body whose status is known
ANSWER_BYTES = 2048
CHECK_SECONDS = 1.0
MAX_REDIRECTS = 3
MAX_ADDRESSES = 4  # tried one after the other

Take = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Delivery:
    """What somebody answered to a POST. `seconds` until its status was there.

    `answer`: the first 2 KB of its body, as text that any database takes. `retry_after`: in seconds, as it was asked
    for, without bounds; None for none.
    """

    status: int
    seconds: float
    answer: str
    retry_after: float | None


@dataclass(frozen=True)
class Fetched:
    """`url` is where the redirects ended, `size` in bytes."""

    url: str
    content_type: str
    size: int


class GuardedHttp:
    """One for the process; close it at the end.

    `allowed_private_hosts`: ALLOWED_PRIVATE_HOSTS. `total_seconds`: for one call, its redirects included.
    """

    def __init__(
        self,
        allowed_private_hosts: Iterable[str],
        *,
        resolver: Resolver | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._system = SystemResolver()
        self._guard = UrlGuard(allowed_private_hosts, resolver or self._system)
        self._total_seconds = total_seconds

    async def check_url(self, url: str, field: str) -> None:
        """For the moment when a caller names a URL. Raises ValidationFailed, which names `field`.

        A host that cannot be looked up at the moment is let pass: each connection is checked again.
        """
        try:
            await self._guard.target(url, lookup_seconds=CHECK_SECONDS)
        except UrlFailed as error:
            raise error.of_field(field) from error
        except LookupFailing:
            return

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivery:
        """POST exactly these bytes; a redirect is an answer like any other. Raises UrlFailed without an answer."""
        started = time.monotonic()
        async with self._answer("POST", url, headers, body) as response:
            seconds = time.monotonic() - started
            answer = await _beginning(response, min(ANSWER_SECONDS, self._total_seconds - seconds))
        return Delivery(response.status_code, seconds, answer, _retry_after(response.headers.get("retry-after")))

    async def fetch(self, url: str, take: Take, *, field: str, max_bytes: int) -> Fetched:
        """GET a URL, over at most 3 redirects, and hand on its body piece by piece as it comes.

        Raises ValidationFailed, which names `field`; `take` may have had a part of the body then, but never more than
        `max_bytes`.
        """
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._follow(url, take, max_bytes)
        except UrlFailed as error:
            raise error.of_field(field) from error
        except TimeoutError as error:
            raise UrlFailed("url_timeout").of_field(field) from error

    async def close(self) -> None:
        if "_transport" in vars(self):
            await self._transport.aclose()
        self._system.close()

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        """The transport and no client: one would follow redirects, keep cookies and ask the environment for proxies.

        It reads all certificates, 4 MB in a process; an API process calls nobody.
        """
        return httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))

    async def _follow(self, url: str, take: Take, max_bytes: int) -> Fetched:
        # Compression is not asked for: what is small on the wire may be huge in memory.
        headers = {"accept": "*/*", "accept-encoding": "identity"}
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer("GET", url, headers) as response:
                if response.has_redirect_location:
                    url = _joined(url, response.headers["location"])
                    continue
                if response.status_code != httpx.codes.OK:
                    raise UrlFailed("url_status", f"HTTP {response.status_code}")
                size = await _hand_on(response, take, max_bytes)
                return Fetched(url, response.headers.get("content-type", ""), size)
        raise UrlFailed("url_redirects")

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with asyncio.timeout(self._total_seconds):
                target = await self._guard.target(url)
                response = await self._send(target, method, headers, body)
        except LookupFailing as error:
            raise UrlFailed("url_connection", str(error)) from error
        except TimeoutError as error:
            raise UrlFailed("url_timeout") from error
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(
        self, target: Target, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> httpx.Response:
        """Connect to an address that was checked; the host's name goes into the header and into TLS alone."""
        failure = UrlFailed("url_connection")
        for address in target.addresses[:MAX_ADDRESSES]:
            request = httpx.Request(
                method,
                target.url.copy_with(host=address),
                headers={"host": target.url.netloc.decode("ascii"), **headers},
                content=body,
                extensions={
                    "sni_hostname": target.host,
                    "timeout": httpx.Timeout(self._total_seconds, connect=CONNECT_SECONDS).as_dict(),
                },
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = _failure(error)  # nothing was sent yet, so the next address may be tried
            except httpx.HTTPError as error:
                raise _failure(error) from error
        raise failure


async def _beginning(response: httpx.Response, seconds: float) -> str:
    """The first 2 KB. The status has come already, so a body that breaks off or never ends changes nothing."""
    answer = bytearray()
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(seconds), _pieces(response) as pieces:
            async for piece in pieces:
                answer += piece[: ANSWER_BYTES - len(answer)]
                if len(answer) >= ANSWER_BYTES:
                    break
    # PostgreSQL has no place for a zero in a text.
    return answer.decode("utf-8", "replace").replace("\0", "\ufffd")


def _pieces(response: httpx.Response) -> contextlib.aclosing[AsyncGenerator[bytes, None]]:
    """The body as it comes, not decompressed."""
    return contextlib.aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw()))


async def _hand_on(response: httpx.Response, take: Take, max_bytes: int) -> int:
    size = 0
    try:
        async with _pieces(response) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > max_bytes:
                    raise UrlFailed("url_size", limit=max_bytes)
                await take(piece)
    except httpx.HTTPError as error:
        raise _failure(error) from error
    return size


def _joined(url: str, location: str) -> str:
    try:
        return str(httpx.URL(url).join(location))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UrlFailed("url_form", f"redirect: {error}") from error


def _failure(error: httpx.HTTPError) -> UrlFailed:
    private = f"{type(error).__name__}: {error}"
    if isinstance(error, httpx.TimeoutException):
        return UrlFailed("url_timeout", private)
    if _is_about_tls(error):
        return UrlFailed("url_tls", private)
    if isinstance(error, httpx.ConnectError):
        return UrlFailed("url_connection", private)
    return UrlFailed("url_answer", private)


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(value: str | None) -> float | None:
    """Seconds, or a date (RFC 9110 section 10.2.3); what is neither counts for nothing."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        moment = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())
