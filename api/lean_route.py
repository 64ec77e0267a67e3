"""Routes that are asked for more often than all others together: documented like any other, run without ceremony.

Resolving parameters and serialising by model is what FastAPI does for a route, and half of what a short read costs
(docs/adr/0005 has the figures). An endpoint on a `LeanRoute` takes the request alone and does those steps itself; what
it takes is listed as `dependencies`, which are there for the OpenAPI document and do not run.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

Model = TypeVar("Model", bound=BaseModel)
Documentation = TypeVar("Documentation", bound=Callable[..., Any])

KNOWN_QUERIES, LONGEST_KNOWN_QUERY = 256, 256  # bytes

_MARK = "is_only_documented"


def only_documented(function: Documentation) -> Documentation:
    """Mark a dependency that says what a lean route takes, and does nothing."""
    setattr(function, _MARK, True)
    return function


class LeanRoute(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        for dependency in self.dependencies:
            call = dependency.dependency
            if not isinstance(call, SecurityBase) and not hasattr(call, _MARK):
                # Somebody would take it for a check that is made.
                raise TypeError(f"{path}: {call} would not run on a lean route")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Without the stacks for dependencies and the net for errors that FastAPI puts around each endpoint: there are
        no dependencies here, and the app's own net is around all routes.
        """
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # says which there are
            return
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def _read(model: type[BaseModel], query: bytes) -> BaseModel:
    return model.model_validate(dict(QueryParams(query)))


# People ask for the same few pages again and again.
_read_again = lru_cache(KNOWN_QUERIES)(_read)


def query_of(model: type[Model], request: Request) -> Model:
    """The query as FastAPI would read it into this model, which is a frozen one. Raises RequestValidationError."""
    query: bytes = request.scope["query_string"]
    try:
        found = _read_again(model, query) if len(query) <= LONGEST_KNOWN_QUERY else _read(model, query)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError(
            [{**problem, "loc": ("query", *problem["loc"])} for problem in problems]
        ) from error
    assert isinstance(found, model)
    return found
