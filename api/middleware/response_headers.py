"""Headers of every answer: what a browser may do with it, how much of its rate limit a caller has left, and whether the
connection closes because this process does.
"""

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.limits import Allowance

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_CLOSE = (b"connection", b"close")
_NO_STORE = (b"cache-control", b"no-store")
_ASK_AGAIN = (b"cache-control", b"no-cache")


class ResponseHeaders:
    """`public_bucket_url`: where the page finds images that are not ours to send; empty without such a bucket."""

    def __init__(self, app: ASGIApp, public_bucket_url: str) -> None:
        self._app = app
        self._always = (
            *_SECURITY_HEADERS,
            (b"content-security-policy", _content_security_policy(public_bucket_url).encode()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *self._always]
                if scope["app"].state.is_closing:
                    headers.append(_CLOSE)
                if scope["scheme"] == "https":
                    headers.append(_STRICT_TRANSPORT)
                names = {name for name, _ in headers}
                if b"cache-control" not in names:
                    # What the API answers belongs to one caller. Images say otherwise themselves; the page's files,
                    # which have an ETag, may be kept and asked for again.
                    headers.append(_ASK_AGAIN if b"etag" in names else _NO_STORE)
                allowance = scope["state"].get("allowance")
                if allowance is not None:
                    headers.extend(_rate_limit_headers(allowance))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _content_security_policy(public_bucket_url: str) -> str:
    address = urlsplit(public_bucket_url)
    bucket = f" {address.scheme}://{address.netloc}" if address.netloc else ""
    return (
        f"default-src 'self'; img-src 'self' data: blob:{bucket}; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _rate_limit_headers(allowance: Allowance) -> list[tuple[bytes, bytes]]:
    """IETF draft-ietf-httpapi-ratelimit-headers-11."""
    limit = allowance.limit
    policy = f'"{limit.name}";q={limit.amount};w={limit.window_seconds}'
    state = f'"{limit.name}";r={max(0, allowance.remaining)};t={allowance.reset_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]
