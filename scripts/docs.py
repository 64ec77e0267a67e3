"""`python -m scripts.docs`: writes the documents that follow from the code; a test fails when they are behind it.

docs/settings.md and .env.example from core/settings.py, docs/errors.md from the error classes, docs/redis.md from the
stores' keys, docs/routes.md from the OpenAPI document.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import core
import services
from api.main import create_app
from core.clients.redis import RedisKey
from core.errors import AppError
from core.metrics import Metrics
from core.settings import load_settings, setting_groups
from i18n.translate import Translations

ROOT = Path(__file__).resolve().parents[1]
GENERATED = "<!-- Written by `python -m scripts.docs`; change the code, not this file. -->\n"


def documents() -> dict[Path, str]:
    """Each generated file with its content."""
    return {
        ROOT / "docs/settings.md": settings_document(),
        ROOT / ".env.example": env_example(),
        ROOT / "docs/errors.md": errors_document(),
        ROOT / "docs/redis.md": redis_document(),
        ROOT / "docs/routes.md": routes_document(),
    }


def settings_document() -> str:
    parts = [
        "# Settings",
        GENERATED,
        "Each is an environment variable, or a line in `.env` beside the code. Empty means unset; lists are separated "
        "by commas. All wrong values are named at the start, and the process does not start then.",
    ]
    for group, model in setting_groups().items():
        rows = [
            f"| `{name.upper()}` | {_default(field)} | {field.description} |"
            for name, field in model.model_fields.items()
        ]
        parts.append("\n".join([f"## {group.capitalize()}\n", "| setting | default | what |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def env_example() -> str:
    lines = ["# Every setting with its default. Written by `python -m scripts.docs`; docs/settings.md says more."]
    for group, model in setting_groups().items():
        lines += ["", f"# {group}"]
        for name, field in model.model_fields.items():
            lines.append(f"# {field.description}")
            lines.append(f"#{name.upper()}={_plain_default(field)}")
    return "\n".join(lines) + "\n"


def errors_document() -> str:
    translations = Translations()
    rows = []
    for error in sorted(error_classes(), key=lambda found: (found.status, found.code)):
        meaning = (error.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
        text = translations.text("en", f"errors.api.{error.type}")
        rows.append(f"| `{error.code}` | {error.status} | `{error.type}` | {' '.join(meaning.split())} | {text} |")
    return (
        "\n\n".join(
            [
                "# Errors",
                GENERATED,
                "Every error has the shape `{success: false, error: {code, message, type, details}, request_id}`. "
                "`code` is for programs, `type` is the key of the text (`errors.api.{type}`), `details` says what to "
                "change.",
                "\n".join(["| code | HTTP | type | when | message (en) |", "|---|---|---|---|---|", *rows]),
            ]
        )
        + "\n"
    )


def redis_document() -> str:
    rows = [
        f"| `{key.pattern}` | {key.holds} | {_life(key.ttl)} |"
        for key in sorted(redis_keys(), key=lambda found: found.pattern)
    ]
    return (
        "\n\n".join(
            [
                "# Redis keys",
                GENERATED,
                "One Redis or Valkey; not Cluster. `{…}` are placeholders.",
                "\n".join(["| key | holds | life |", "|---|---|---|", *rows]),
            ]
        )
        + "\n"
    )


def routes_document() -> str:
    document = create_app(load_settings(), Metrics()).openapi()
    rows = [
        f"| {method.upper()} | `{path}` | {' '.join(operation['description'].split())} |"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        "\n\n".join(
            [
                "# Routes",
                GENERATED,
                "The OpenAPI document at `/openapi.json` has the fields, the errors and examples; `/docs` shows it.",
                "\n".join(["| method | path | what |", "|---|---|---|", *rows]),
            ]
        )
        + "\n"
    )


def error_classes() -> set[type[AppError]]:
    """All errors with a code of their own."""
    list(_modules())
    found: set[type[AppError]] = set()
    pending = [AppError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        if "code" in vars(error):
            found.add(error)
    return found


def redis_keys() -> set[RedisKey]:
    """All key families that a module names."""
    return {value for module in _modules() for value in vars(module).values() if isinstance(value, RedisKey)}


def _modules() -> Iterator[Any]:
    for package in (core, services):
        for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(entry.name)


def _default(field: FieldInfo) -> str:
    plain = _plain_default(field)
    return f"`{plain}`" if plain else "–"


def _plain_default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def _life(ttl: int | None) -> str:
    if ttl is None:
        return "–"
    for seconds, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if ttl >= seconds:
            return f"{ttl / seconds:g} {name if ttl > seconds else name.removesuffix('s')}"
    return f"{ttl} s"


def main() -> None:
    for path, content in documents().items():
        path.write_text(content, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
