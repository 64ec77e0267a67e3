"""Errors have one shape, words in both languages, and tell nothing of our inside."""

import ast
import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI

import core
import services
from api import errors as api_errors
from api.main import create_app
from core.errors import AppError
from core.metrics import Metrics
from core.settings import load_settings
from i18n.translate import LANGUAGES, Translations
from tests.support.answers import error_of
from tests.support.service import RunningService

ROOT = Path(core.__file__).resolve().parents[1]
PLACEHOLDER = re.compile(r"\{(\w+)\}")
# The table of SPEC section 3, as far as an error is shown by what is built.
DOCUMENTED = {
    "VALIDATION_ERROR": (422, "validation"),
    "UNAUTHORIZED": (401, "unauthorized"),
    "FORBIDDEN": (403, "forbidden"),
    "NOT_FOUND": (404, "not_found"),
    "API_KEY_REQUIRED": (400, "api_key_required"),
    "INVALID_API_KEY": (400, "invalid_key"),
    "QUOTA_EXCEEDED": (429, "quota_exceeded"),
    "COOLDOWN": (429, "cooldown"),
    "RATE_LIMITED": (429, "too_many_requests"),
    "CONTENT_BLOCKED": (400, "safety_blocked"),
    "PROVIDER_OVERLOADED": (503, "overloaded"),
    "PROVIDER_UNAVAILABLE": (503, "unavailable"),
    "PROVIDER_TIMEOUT": (504, "timeout"),
    "PROVIDER_RATE_LIMITED": (503, "rate_limited"),
    "PROVIDER_CONNECTION": (502, "connection"),
    "PROVIDER_REJECTED": (400, "provider_rejected"),
    "NO_IMAGE": (502, "no_image"),
    "PAYLOAD_TOO_LARGE": (413, "payload_too_large"),
    "UNSUPPORTED_IMAGE": (400, "unsupported_image"),
    "STORAGE_UNAVAILABLE": (503, "unavailable"),
    "DEPENDENCY_UNAVAILABLE": (503, "unavailable"),
    "INTERNAL_ERROR": (500, "unknown"),
}


def error_classes() -> list[type[AppError]]:
    """All errors that have a code, of every module there is."""
    for package in (core, services):
        _import_all(package)
    found: list[type[AppError]] = []
    waiting: list[type[AppError]] = [AppError]
    while waiting:
        error = waiting.pop()
        waiting.extend(error.__subclasses__())
        if hasattr(error, "code"):
            found.append(error)
    return found


def _import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def sources() -> Iterator[ast.Module]:
    for folder in ("api", "core", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"))


def reasons_in_use() -> set[str]:
    """The reason of each `FieldProblem(field, reason)` in the code, of each `Refused(reason)` and `UrlFailed(reason)`
    that becomes one, of each `Attempt(…, error=reason)` of ours, and what pydantic's errors are turned into.
    """
    found = set(api_errors._REASONS.values())
    for tree in sources():
        for node in ast.walk(tree):
            name = getattr(node.func, "id", getattr(node.func, "attr", None)) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and name in {"FieldProblem", "Refused", "_refused", "UrlFailed", "Attempt"}:
                place = 1 if name == "FieldProblem" else 0
                by_name = (w.value for w in node.keywords if w.arg == ("error" if name == "Attempt" else "reason"))
                given = [*([] if name == "Attempt" else node.args[place : place + 1]), *by_name]
                found.update(str(argument.value) for argument in given if isinstance(argument, ast.Constant))
    return found


def custom_reasons() -> set[str]:
    """The types that our own validators raise."""
    return {
        str(node.args[0].value)
        for tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", None) == "PydanticCustomError"
        and isinstance(node.args[0], ast.Constant)
    }


def test_each_code_is_one_errors_alone() -> None:
    found = error_classes()
    # One that inherits its code is its parent with other words.
    codes = [error.code for error in found if "code" in vars(error)]
    assert len(codes) > 15
    assert sorted(codes) == sorted(set(codes))


def test_the_documented_codes_have_the_documented_status_and_type() -> None:
    found = {error.code: (error.status, error.type) for error in error_classes() if "code" in vars(error)}
    assert {code: found.get(code) for code in DOCUMENTED} == DOCUMENTED


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_has_its_words(language: str) -> None:
    keys = Translations().keys("en" if language == "en" else "zh")
    missing = {error.type for error in error_classes() if f"errors.api.{error.type}" not in keys}
    assert missing == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_field_has_its_words(language: str) -> None:
    used = reasons_in_use()
    assert {"missing", "not_supported", "content_type", "model_ended", "unknown_field"} <= used
    keys = Translations().keys("en" if language == "en" else "zh")
    # Those that the translation of pydantic's errors falls back to, and the one it makes of a length.
    assert {reason for reason in used | {"invalid", "blank"} if f"errors.fields.{reason}" not in keys} == set()


def test_what_our_own_validators_raise_is_a_known_reason() -> None:
    raised = custom_reasons()
    assert {"bad_text", "bad_format"} <= raised
    assert raised <= set(api_errors._REASONS)


def test_no_words_are_left_over() -> None:
    words = {key.rpartition(".")[2] for key in Translations().keys("en") if key.startswith("errors.fields.")}
    assert words - reasons_in_use() - {"invalid", "blank"} == set()


async def test_both_languages_have_the_same_keys_and_placeholders(service: RunningService) -> None:
    flat = {}
    for language in LANGUAGES:
        response = await service.client.get(f"/api/i18n/{language}")
        assert response.status_code == 200
        flat[language] = dict(_flatten(response.json()))
    assert len(flat["en"]) > 40
    assert set(flat["en"]) == set(flat["zh"])
    for key, text in flat["en"].items():
        assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(flat["zh"][key])), key
        assert text.strip()
        assert flat["zh"][key].strip()


def _flatten(tree: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            assert isinstance(value, str)
            yield f"{prefix}{key}", value


async def test_a_language_that_we_do_not_speak_is_404(service: RunningService) -> None:
    for language in ("fr", "EN", "zh-CN", "en.json", "..%2fen"):
        error_of(await service.client.get(f"/api/i18n/{language}"), 404, "NOT_FOUND")


async def test_the_default_language_is_the_operators(redis_url: str, tmp_path: Path) -> None:
    async with _unopened(DEFAULT_LANGUAGE="zh", DATA_DIR=str(tmp_path), REDIS_URL=redis_url) as (_, client):
        assert error_of(await client.get("/nothing"), 404, "NOT_FOUND")["message"] == "这里没有你要找的内容。"
        english = await client.get("/nothing", headers={"Accept-Language": "en-GB"})
        assert error_of(english, 404, "NOT_FOUND")["message"] == "There is no such thing here."


@asynccontextmanager
async def _unopened(**environment: str) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The app without its parts, spoken to as a server speaks to it; routes may be added."""
    app = create_app(load_settings(environment), Metrics())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield app, client


async def test_a_defect_is_answered_like_any_error_and_tells_nothing(redis_url: str, tmp_path: Path) -> None:
    secret = "postgresql://user:password@host"
    origin = "https://page.example"
    environment = {"DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "CORS_ORIGINS": origin}
    async with _unopened(**environment) as (app, client):

        @app.get("/defect")
        async def defect() -> None:
            raise ZeroDivisionError(secret)

        response = await client.get("/defect", headers={"X-Request-ID": "defect-0001", "Origin": origin})
        error = error_of(response, 500, "INTERNAL_ERROR")
        assert (error["type"], error["details"]) == ("unknown", {})
        assert response.json()["request_id"] == "defect-0001"
        assert secret not in response.text
        assert "ZeroDivision" not in response.text
        # Also this answer can be read by the page that asked, and is kept by nobody.
        assert response.headers["access-control-allow-origin"] == origin
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        chinese = await client.get("/defect", headers={"Accept-Language": "zh"})
        assert error_of(chinese, 500, "INTERNAL_ERROR")["message"].startswith("我们这边出了问题")
