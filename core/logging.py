"""Structured logs: one event a line, with the request's and the user's id, and without secrets."""

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from core.settings import Settings

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"(authorization|cookie|password|passwd|secret|token|api_?key|access_key|signature)", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"AIza[\w-]{20,}"  # Google API keys
    r"|nbk_[\w-]{8,}"  # service keys
    r"|gh[opsu]_\w{20,}|github_pat_\w{20,}"  # GitHub tokens
    r"|sk-[\w-]{16,}"  # OpenAI's and others' keys
    r"|whsec_[\w+/=]{8,}"  # webhook secrets
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JWTs
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # credentials in addresses
    r"|(?<=[?&]sig=)[\w-]+|(?<=[?&]token=)[\w.-]+|(?<=[?&]key=)[\w.-]+"
    r"|(?<=Bearer )\S+"
)


def redact(text: str) -> str:
    """Replace whatever looks like a key, a token or a password in a text."""
    return _SECRET_VALUES.sub(REDACTED, text)


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name != "event" and _SECRET_NAMES.search(name):
            event[name] = REDACTED
        elif isinstance(value, str):
            event[name] = redact(value)
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str).decode()


class _ForgivingStream:
    """Standard error as long as it takes what is written: a full disk behind it must not fail the request."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logging(settings: Settings) -> None:
    """Send our events and those of the libraries, in one format, to standard error."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.log_as_json:
        final: list[Processor] = [structlog.processors.format_exc_info, _redact_event, _render_json]
    else:
        # A console shows the trace as text of its own; redacted like the rest, because it is text by then.
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        final = [structlog.processors.format_exc_info, _redact_event, console]
    stream = _ForgivingStream()
    level = logging.getLevelNamesMapping()[settings.log.log_level]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.INFO if settings.server.debug else logging.WARNING))


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry the name of the module that speaks."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(module=name)
    return logger
