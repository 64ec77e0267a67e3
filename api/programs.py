"""Who calls `/api/v1` and `/v1`: programs with a service key, and people with their access token.

A route there names what it needs by the type of one parameter:

    async def list_tasks(caller: TaskReader, …)       also for guests, with their token
    async def list_models(caller: ApiReader, …)       for accounts and their keys

`…Maker` is for what makes something: a key needs the scope `generate`, and requests count against the lower limit.
`…Changer` is for what changes something and makes nothing: the same scope, with the limit of what reads.
Requests made with a key count as its owner's: many keys give nobody more of them.
"""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from structlog.contextvars import bind_contextvars

from api.dependencies import (
    Bearer,
    Services,
    admitted,
    client_address,
    count_request,
    limit_of,
    no_other_scheme,
    remember,
)
from core.errors import Forbidden, Unauthorized
from services.accounts.models import Caller, Scope
from services.accounts.service_keys import PREFIX
from services.container import Container

SERVICE_KEY = APIKeyHeader(
    name="X-API-Key", auto_error=False, scheme_name="serviceKey", description="a service key of /api/auth/service-keys"
)
ServiceKeyHeader = Annotated[str | None, Security(SERVICE_KEY)]


class Program:
    """The dependency. Raises Unauthorized; Forbidden for a key without the scope, for a blocked owner, and for guests
    where they may not; RateLimited.
    """

    def __init__(self, scope: Scope, limit: str, *, guests: bool) -> None:
        self._scope = scope
        self._limit = limit
        self._guests = guests

    async def __call__(self, request: Request, services: Services, bearer: Bearer, header: ServiceKeyHeader) -> Caller:
        token = bearer.credentials if bearer else None
        key = _service_key(header, token)
        if key is not None:
            return await self._by_key(request, services, key)
        if bearer is None:
            no_other_scheme(request)
            raise Unauthorized
        caller = await admitted(request, services, bearer, self._limit)
        if caller.role == "guest" and not self._guests:
            raise Forbidden("accounts_only")
        return caller

    async def _by_key(self, request: Request, services: Container, key: str) -> Caller:
        holder = await services.service_keys.authenticate(key, address=client_address(request))
        remember(request, holder.caller.user_id)
        bind_contextvars(service_key_id=holder.caller.service_key_id)
        await count_request(request, services, holder.caller.user_id, limit_of(services, self._limit))
        if self._scope not in holder.scopes:
            raise Forbidden("scope", scope=self._scope)
        return holder.caller


def _service_key(header: str | None, token: str | None) -> str | None:
    """The key, from either place. Raises Unauthorized where two different callers are named, or where a Google key
    stands: these routes take it in their body.
    """
    if header:
        if not header.startswith(PREFIX):
            raise Unauthorized("not_a_service_key")
        if token is not None and token != header:
            raise Unauthorized("two_callers")
        return header
    return token if token is not None and token.startswith(PREFIX) else None


read_tasks = Program("read", "read", guests=True)
TaskReader = Annotated[Caller, Depends(read_tasks)]
TaskChanger = Annotated[Caller, Depends(Program("generate", "read", guests=True))]
TaskMaker = Annotated[Caller, Depends(Program("generate", "default", guests=True))]
ApiReader = Annotated[Caller, Depends(Program("read", "read", guests=False))]
ApiMaker = Annotated[Caller, Depends(Program("generate", "default", guests=False))]
