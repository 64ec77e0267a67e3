"""How tokens travel: all in the body, or the refresh token in a cookie that no script of a page can read.

A browser asks for the cookie with `X-Token-Transport: cookie`. It goes back to /api/auth alone and never with a request
that another site has made; what changes by it also looks at `Origin`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import Cookie, Depends, Header, Request, Response

from api.dependencies import Services
from api.schemas.auth import TokensRead
from core.errors import FieldProblem, Forbidden, Unauthorized, ValidationFailed
from core.setting_groups import ServerSettings
from services.accounts.models import SESSION_TTL_SECONDS, Tokens

TokenCarrier = Literal["body", "cookie"]

COOKIE = "nbl_refresh"
COOKIE_PATH = "/api/auth"

_TRANSPORT = Header(
    alias="X-Token-Transport",
    description="cookie: the refresh token comes as the HttpOnly cookie `nbl_refresh` and is in no body",
)
_COOKIE = Cookie(alias=COOKIE, description="the refresh token of a browser that asked for a cookie")


@dataclass(frozen=True)
class TokenTransport:
    """`cookie` is the refresh token that came in one, `wanted` whether the caller asks for one."""

    request: Request
    response: Response
    server: ServerSettings
    wanted: bool
    cookie: str | None

    def give(self, tokens: Tokens) -> TokensRead:
        """The body of an answer that gives tokens."""
        if not self.wanted:
            return TokensRead.of(tokens)
        self._set_cookie(tokens.refresh_token, SESSION_TTL_SECONDS)
        return TokensRead.of(tokens, refresh_in_body=False)

    def take(self, in_body: str | None) -> tuple[str, "TokenTransport"]:
        """The refresh token that came, and how its successor goes back.

        Raises ValidationFailed when there is none, Unauthorized when the cookie is gone, Forbidden for a wrong Origin.
        """
        if in_body is not None:
            return in_body, self
        if self.cookie is None and not self.wanted:
            raise ValidationFailed([FieldProblem("refresh_token", "missing")])
        self._check_origin()
        if not self.cookie:
            raise Unauthorized("invalid_refresh_token")
        return self.cookie, TokenTransport(self.request, self.response, self.server, True, self.cookie)

    def end(self) -> None:
        """Take the cookie back, where there is one. Raises Forbidden for a wrong Origin."""
        if self.wanted or self.cookie is not None:
            self._check_origin()
            self._set_cookie("", 0)

    def _set_cookie(self, value: str, max_age: int) -> None:
        self.response.set_cookie(
            COOKIE, value, max_age=max_age, path=COOKIE_PATH, secure=True, httponly=True, samesite="strict"
        )

    def _check_origin(self) -> None:
        own = f"{self.request.url.scheme}://{self.request.headers.get('host', '')}"
        origins = {own, *self.server.cors_origins}
        if self.server.public_base_url:
            public = urlsplit(self.server.public_base_url)
            origins.add(f"{public.scheme}://{public.netloc}")
        if self.request.headers.get("origin") not in origins:
            raise Forbidden("wrong_origin")


async def token_transport(
    request: Request,
    response: Response,
    services: Services,
    wanted: Annotated[TokenCarrier | None, _TRANSPORT] = None,
    cookie: Annotated[str | None, _COOKIE] = None,
) -> TokenTransport:
    return TokenTransport(request, response, services.settings.server, wanted == "cookie", cookie)


Transport = Annotated[TokenTransport, Depends(token_transport)]
