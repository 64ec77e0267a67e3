"""The errors that reach a caller, and nothing else.

A class says what is stable (`code` for programs, `status` for HTTP, `type` for the translated text); an instance
adds typed details for the caller and a private message for the log. `api/errors.py` renders them, once.

    AppError
    ├── ValidationFailed, Unauthorized, Forbidden, NotFound, MethodNotAllowed, PayloadTooLarge
    ├── RequestTimeout, RangeNotSatisfiable, RateLimited
    ├── StorageUnavailable, DependencyUnavailable, InternalError
    └── those of the domains: services/*/errors.py
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


class AppError(Exception):
    """Base of all errors that are shown to a caller."""

    code: ClassVar[str]
    status: ClassVar[int]
    type: ClassVar[str]

    def __init__(self, private_message: str = "", **details: JsonValue) -> None:
        super().__init__(private_message or self.__class__.__name__)
        self.details = details

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which trying again makes sense, for the `Retry-After` header."""
        value = self.details.get("retry_after")
        return int(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field. `reason` is the i18n key `errors.fields.{reason}`."""

    field: str
    reason: str
    allowed: tuple[str, ...] | None = None
    limit: int | float | None = None
    hint: str | None = None

    def as_details(self) -> dict[str, JsonValue]:
        details: dict[str, JsonValue] = {"field": self.field, "reason": self.reason}
        if self.allowed is not None:
            details["allowed"] = list(self.allowed)
        if self.limit is not None:
            details["limit"] = self.limit
        if self.hint is not None:
            details["hint"] = self.hint
        return details


class ValidationFailed(AppError):
    """A field is missing or wrong."""

    code = "VALIDATION_ERROR"
    status = 422
    type = "validation"

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        fields = [problem.as_details() for problem in self.problems]
        super().__init__(f"validation: {fields}", fields=fields)

    def renamed(self, names: Mapping[str, str]) -> "ValidationFailed":
        """The same for a caller who knows some of the fields by other names."""
        return ValidationFailed(
            [replace(problem, field=names.get(problem.field, problem.field)) for problem in self.problems]
        )


class Unauthorized(AppError):
    """No token, or it is expired, revoked or forged."""

    code = "UNAUTHORIZED"
    status = 401
    type = "unauthorized"

    def __init__(self, reason: str = "missing_token") -> None:
        super().__init__(f"unauthorized: {reason}", reason=reason)


class Forbidden(AppError):
    """Signed in, but not allowed to."""

    code = "FORBIDDEN"
    status = 403
    type = "forbidden"

    def __init__(self, reason: str, **details: JsonValue) -> None:
        super().__init__(f"forbidden: {reason}", reason=reason, **details)


class NotFound(AppError):
    """Not there, or not the caller's."""

    code = "NOT_FOUND"
    status = 404
    type = "not_found"


class MethodNotAllowed(AppError):
    """The path exists, but not with this method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    type = "method_not_allowed"


class PayloadTooLarge(AppError):
    """The body, or an image in it, is over the limit (bytes)."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    type = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"body over {limit} bytes", limit=limit)


class RequestTimeout(AppError):
    """The body comes too slowly; `limit` in seconds, for what hardly moves."""

    code = "REQUEST_TIMEOUT"
    status = 408
    type = "request_timeout"

    def __init__(self, limit: int) -> None:
        super().__init__(f"body not whole within its time, {limit} s at least", limit=limit)


class RangeNotSatisfiable(AppError):
    """`Range` asks for bytes past the end; `size` in bytes."""

    code = "RANGE_NOT_SATISFIABLE"
    status = 416
    type = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"range outside of {size} bytes", size=size)


class RateLimited(AppError):
    """Too many requests to us; `retry_after` in seconds."""

    code = "RATE_LIMITED"
    status = 429
    type = "too_many_requests"

    def __init__(self, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(limit=limit, window_seconds=window_seconds, retry_after=retry_after)


class StorageUnavailable(AppError):
    """The bucket or the local folder cannot be used."""

    code = "STORAGE_UNAVAILABLE"
    status = 503
    type = "unavailable"

    def __init__(self, private_message: str) -> None:
        super().__init__(private_message, component="storage", retry_after=5)


class DependencyUnavailable(AppError):
    """Redis or the database is down."""

    code = "DEPENDENCY_UNAVAILABLE"
    status = 503
    type = "unavailable"

    def __init__(self, component: str, private_message: str = "") -> None:
        super().__init__(private_message or component, component=component, retry_after=2)


class InternalError(AppError):
    """A defect of ours; the log has the request id and the trace."""

    code = "INTERNAL_ERROR"
    status = 500
    type = "unknown"
