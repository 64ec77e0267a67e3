"""Errors become localised JSON here, and nowhere else.

{"success": false, "error": {"code", "message", "type", "details"}, "request_id"}
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from api.context import request_id_of, translations_of
from api.schemas.errors import ErrorBody, ErrorResponse
from core.errors import (
    AppError,
    DependencyUnavailable,
    FieldProblem,
    Forbidden,
    InternalError,
    JsonValue,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    ValidationFailed,
)
from core.logging import get_logger
from i18n.translate import Language, Translations
from services.generation.errors import ClientGone
from services.tasks.models import TaskError

MAX_NAME_CHARACTERS = 100
MAX_PROBLEMS = 50  # a caller may send thousands of unknown fields; the answer need not list them all
CLIENT_CLOSED_REQUEST = 499  # nobody reads it; the access log shows what happened

log = get_logger(__name__)

# pydantic's error types to the reasons of ours (`errors.fields.{reason}`); the limits by their names there.
_REASONS = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_short": "too_short",
    "too_long": "too_long",
    "greater_than_equal": "too_small",
    "greater_than": "too_small",
    "less_than_equal": "too_large",
    "less_than": "too_large",
    "string_unicode": "bad_text",
    "string_pattern_mismatch": "bad_format",
    "json_invalid": "bad_json",
    "model_attributes_type": "wrong_type",
    "dict_type": "wrong_type",
    "bad_text": "bad_text",
    "bad_format": "bad_format",
    "backwards": "backwards",
    "exclusive": "exclusive",
}
_LIMITS = ("min_length", "max_length", "ge", "gt", "le", "lt")


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RedisError, _redis_error)
    app.add_exception_handler(ClientGone, _client_gone)


def render_error(request: Request, error: AppError) -> Response:
    """The one shape of all errors, in the language of the caller."""
    language = _language(request)
    body = ErrorResponse(success=False, error=error_body(request, error), request_id=request_id_of(request))
    headers: dict[str, str] = {"content-language": language}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(body.model_dump()), error.status, headers, media_type="application/json")


def error_body(request: Request, error: AppError | TaskError) -> ErrorBody:
    """An error in the language of the caller; one that a task has kept like one that was just raised."""
    translations, language = translations_of(request), _language(request)
    details = _localised_details(error, translations, language)
    message = translations.text(language, f"errors.api.{error.type}", details)
    return ErrorBody(code=error.code, message=message, type=error.type, details=details)


def _language(request: Request) -> Language:
    return translations_of(request).choose(request.headers.get("accept-language"))


def errors(*classes: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route that may raise these; what any route may raise is added."""
    by_status: dict[int, list[type[AppError]]] = {}
    everywhere: tuple[type[AppError], ...] = (ValidationFailed, DependencyUnavailable, InternalError)
    # Whoever is known may be kept out.
    known: tuple[type[AppError], ...] = (Forbidden,) if Unauthorized in classes else ()
    for error in dict.fromkeys((*classes, *known, *everywhere)):
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {
            "model": ErrorResponse,
            "description": " · ".join(dict.fromkeys(f"`{error.code}`" for error in found)),
        }
        for status, found in sorted(by_status.items())
    }


def _localised_details(error: AppError | TaskError, translations: Translations, language: Language) -> dict[str, Any]:
    details: dict[str, Any] = dict(error.details)
    if "fields" in details:
        details["fields"] = [
            {**field, "message": translations.text(language, f"errors.fields.{field['reason']}", field)}
            for field in _fields(error.details)
        ]
    return details


def _fields(details: Mapping[str, JsonValue]) -> list[Mapping[str, JsonValue]]:
    fields = details.get("fields")
    return [field for field in fields if isinstance(field, Mapping)] if isinstance(fields, Sequence) else []


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request failed", code=error.code, reason=str(error))
    return render_error(request, error)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return render_error(request, ValidationFailed(_problem(request, entry) for entry in error.errors()[:MAX_PROBLEMS]))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = render_error(request, MethodNotAllowed())
        response.headers.update(error.headers or {})
        return response
    if error.status_code == HTTPStatus.NOT_FOUND:
        return render_error(request, NotFound())
    # FastAPI raises 400 itself for a body that it cannot read as text.
    return render_error(request, ValidationFailed([FieldProblem("body", "bad_json")]))


async def _redis_error(request: Request, error: Exception) -> Response:
    log.error("redis is away", reason=repr(error))
    return render_error(request, DependencyUnavailable("redis", str(error)))


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _problem(request: Request, entry: Mapping[str, Any]) -> FieldProblem:
    where, *path = entry["loc"]
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "json_invalid":
        return FieldProblem("body", "bad_json")
    if where == "body" and not path:
        if kind == "string_unicode":
            # A field's name is no text; pydantic then gives it as the input, and looks no further.
            return FieldProblem(_name([entry["input"]]), "unknown_field")
        if kind != "missing" and not is_json(request):
            return FieldProblem("body", "content_type", hint="application/json")
        return FieldProblem("body", _REASONS.get(kind, "wrong_type"))
    reason = _REASONS.get(kind, "wrong_type" if kind.endswith(("_type", "_parsing")) else "invalid")
    if reason == "too_short" and context.get("min_length") == 1:
        reason = "blank"
    limit = next((context[name] for name in _LIMITS if name in context), None)
    return FieldProblem(
        _name(path) or str(where),
        reason,
        allowed=_allowed(context.get("expected")),
        limit=limit,
    )


def _name(path: Sequence[object]) -> str:
    """The dotted path of a field. An unknown field has the name that the caller gave it, which may be anything."""
    text = ".".join(str(part) for part in path)
    return text.encode("utf-8", "replace").decode()[:MAX_NAME_CHARACTERS]


def is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _allowed(expected: str | None) -> tuple[str, ...] | None:
    """The values out of pydantic's `'a', 'b' or 'c'`."""
    if expected is None:
        return None
    return tuple(part.strip(" '") for part in expected.replace(" or ", ",").split(",") if part.strip())
