"""How botocore's requests reach the bucket: over connections that another thread can end.

A socket's time-out limits the wait for one byte, so a peer that sends a byte a second keeps a request alive for ever,
and a thread cannot be stopped from outside. Here an operation is watched: `Watch.abort` shuts its connection, and the
thread that waits on it goes on with an error.
"""

import contextlib
import socket
import threading
from contextvars import ContextVar
from typing import IO, Any, cast
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from core.clients.proxies import proxy_for

BLOCK_BYTES = 128 * 1024


class Aborted(OSError):
    """The operation was given up while this thread worked on it."""


class Watch:
    """One operation's hold on the connection that it uses at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: _WatchedConnection | None = None
        self._aborted = False

    def hold(self, connection: "_WatchedConnection") -> None:
        """Raises Aborted when the operation has been given up."""
        with self._lock:
            if self._aborted:
                raise Aborted
            connection.watch = self
            self._connection = connection

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            connection = self._connection
        # One that went back into the pool may carry another operation by now.
        if connection is not None and connection.watch is self:
            connection.shut()


CURRENT_WATCH: ContextVar[Watch] = ContextVar("watch")
"""The operation that the current thread works on."""


class _WatchedConnection(HTTPConnection):
    watch: Watch | None = None
    _connected: socket.socket | None = None

    def connect(self) -> None:
        # Held before as well: a TLS handshake may take long, too.
        CURRENT_WATCH.get().hold(self)
        super().connect()
        # Of a connection that ends with its answer, `sock` is gone while the answer is still read.
        self._connected = self.sock
        CURRENT_WATCH.get().hold(self)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        CURRENT_WATCH.get().hold(self)
        super().putrequest(*arguments, **options)

    def shut(self) -> None:
        """Wake the thread that reads or writes here."""
        used = self.sock or self._connected
        if isinstance(used, socket.socket):
            with contextlib.suppress(OSError):
                # Past TLS, whose own goodbye another thread must not say while this one reads.
                socket.socket.shutdown(used, socket.SHUT_RDWR)


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection


class Transport:
    """Keeps up to `connections` open. Proxies are taken from the environment, as elsewhere."""

    def __init__(self, endpoint: str, *, connections: int, connect_seconds: float, read_seconds: float) -> None:
        proxy = proxy_for(endpoint)
        options: dict[str, Any] = {
            "num_pools": 2,
            "maxsize": connections,
            "timeout": Timeout(connect=connect_seconds, read=read_seconds),
            "blocksize": BLOCK_BYTES,
        }
        if proxy is not None:
            self._pools: PoolManager = ProxyManager(proxy, **options)
        else:
            self._pools = PoolManager(**options)
        self._pools.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        """A handler for botocore's event `before-send`, whose answer is taken in place of botocore's own sending."""
        address = urlsplit(request.url)
        pool = self._pools.connection_from_url(request.url)
        target = f"{address.path}?{address.query}" if address.query else address.path
        if pool.proxy is not None and address.scheme == "http":
            target = request.url
        response = pool.urlopen(
            request.method,
            target,
            body=cast("bytes | IO[bytes] | None", request.body),
            # What the bucket may refuse is small; asking before each image costs a round trip.
            headers={name: value for name, value in request.headers.items() if name.lower() != "expect"},
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        return AWSResponse(request.url, response.status, cast(Any, response.headers), response)

    def close(self) -> None:
        self._pools.clear()
