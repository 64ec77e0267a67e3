"""Where a URL that a caller gives may lead: http(s), no credentials in it, public addresses alone.

`UrlGuard.target` answers with the addresses that were checked, and whoever connects uses exactly these: a name that
is looked up once more for connecting may have changed its answer in between.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import httpx

from core.clients.public_addresses import is_public
from core.errors import FieldProblem, ValidationFailed
from core.host_names import LAST_PORT, NamedHost, canonical_host, named_host

MAX_URL_CHARACTERS = 2048
LOOKUP_SECONDS = 5.0
LOOKUP_THREADS = 16
DEFAULT_PORTS = {"http": 80, "https": 443}
FIRST_FREE_PORT = 1024  # below it only the two of HTTP are taken: the others belong to other protocols


class UrlFailed(Exception):
    """A URL of a caller is refused, or does not answer. `reason` is the i18n key `errors.fields.{reason}`.

    `str()` is for the log and may name addresses; the reason is for the caller. A host that does not exist and one
    with a private address have the same reason, so that nobody can ask us for the names of an internal network.
    """

    def __init__(self, reason: str, private_message: str = "", *, limit: int | None = None) -> None:
        super().__init__(private_message or reason)
        self.reason = reason
        self._limit = limit

    def of_field(self, field: str) -> ValidationFailed:
        """The error that a caller sees."""
        return ValidationFailed([FieldProblem(field, self.reason, limit=self._limit)])


class LookupFailing(Exception):
    """Nobody can say at the moment which addresses a host has."""


class Resolver(Protocol):
    """Looks a host up. Raises socket.gaierror, with EAI_AGAIN where another try may help."""

    async def __call__(self, host: str) -> Sequence[str]: ...


class SystemResolver:
    """The system's own way, hosts file included, in threads of its own.

    It blocks and cannot be interrupted: names whose servers never answer would hold threads that others need.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookups")

    async def __call__(self, host: str) -> Sequence[str]:
        look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(address[0]) for *_, address in found]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Target:
    """`host` is what TLS must prove, `addresses` are where it may be connected to, in the resolver's order."""

    url: httpx.URL
    host: str
    addresses: tuple[str, ...]


class UrlGuard:
    """`allowed`: entries of ALLOWED_PRIVATE_HOSTS. A URL whose host is spelled like one (its port too, if the entry has
    one) may lead anywhere; a name that happens to have an allowed address may not.
    """

    def __init__(self, allowed: Iterable[str], resolver: Resolver) -> None:
        self._allowed = frozenset(named_host(entry) for entry in allowed)
        self._resolver = resolver

    async def target(self, url: str, *, lookup_seconds: float = LOOKUP_SECONDS) -> Target:
        """Check a URL and look its host up. Raises UrlFailed, or LookupFailing."""
        parsed = _parse(url)
        host, port = _host(parsed), _port(parsed)
        allowed = not self._allowed.isdisjoint((NamedHost(host, None), NamedHost(host, port)))
        if not allowed and port < FIRST_FREE_PORT and port not in DEFAULT_PORTS.values():
            raise UrlFailed("url_port", f"port {port}")
        addresses = await self._addresses(host, lookup_seconds)
        private = [] if allowed else [address for address in addresses if not is_public(address)]
        if private or not addresses:
            raise UrlFailed("url_not_public", f"{host} has {', '.join(private) or 'no address'}")
        return Target(parsed, host, addresses)

    async def _addresses(self, host: str, seconds: float) -> tuple[str, ...]:
        if _is_address(host):
            return (host,)
        try:
            async with asyncio.timeout(seconds):
                return tuple(dict.fromkeys(await self._resolver(host)))
        except TimeoutError as error:
            raise LookupFailing(f"{host}: no answer within {seconds} s") from error
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise LookupFailing(f"{host}: {error}") from error
            return ()


def _parse(url: str) -> httpx.URL:
    """The same object is sent later, so nobody can read the text another way than the check did."""
    if len(url) > MAX_URL_CHARACTERS:
        raise UrlFailed("url_form", f"{len(url)} characters")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise UrlFailed("url_form", str(error)) from error
    if parsed.scheme not in DEFAULT_PORTS:
        raise UrlFailed("url_scheme", f"scheme {parsed.scheme!r}")
    if parsed.userinfo:
        raise UrlFailed("url_credentials")
    return parsed


def _port(url: httpx.URL) -> int:
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if not 1 <= port <= LAST_PORT:
        raise UrlFailed("url_port", f"port {port}")
    return port


def _host(url: httpx.URL) -> str:
    try:
        return canonical_host(url.raw_host.decode("ascii"))
    except ValueError as error:
        raise UrlFailed("url_host", f"host {url.host!r}: {error}") from error


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
