"""Wrong settings are named when the service starts, all at once and without their secrets; it does not start then."""

import os
from pathlib import Path

import pytest

from core.settings import Settings, SettingsError, load_settings
from tests.support.installation import Installation

RANDOM_SECRET = "k3Jx9fQ2mV7tZ1bN8rL5wY4cH6sD0gPa"
LARGE = "9" * 25


@pytest.fixture(autouse=True)
def nothing_of_the_developers_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name not in {"PATH", "HOME"} and not name.startswith(("COVERAGE", "PYTEST")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems(**given: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(given)
    return caught.value.problems


def named(**given: str) -> set[str]:
    return {problem.partition(":")[0] for problem in problems(**given)}


def production(**given: str) -> Settings:
    return load_settings({"ENVIRONMENT": "production", "SECRET_KEY": RANDOM_SECRET} | given)


def test_all_wrong_values_are_named_at_once_without_their_secrets() -> None:
    found = problems(
        PORT="abc",
        SECRET_KEY="short-hunter2",
        TRIAL_QUOTA_MODE="both",
        REDIS_URL="http://:hunter2@x",
        R2_ENABLED="true",
    )
    assert {problem.partition(":")[0] for problem in found} == {
        "PORT", "SECRET_KEY", "TRIAL_QUOTA_MODE", "REDIS_URL",
        "R2_ACCOUNT_ID", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY",
    }  # fmt: skip
    assert "hunter2" not in "\n".join(found)


def test_wrong_values_in_a_file_are_named_too_and_nothing_starts(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (tmp_path / ".env").write_text("TRIAL_GUEST_SHARE=2\nDEBUG=perhaps\nSECRET_KEY=hunter2\n", encoding="utf-8")
    exit_code, lines = installation.refused()
    assert exit_code == 2
    assert {line.partition(":")[0] for line in lines} == {"TRIAL_GUEST_SHARE", "DEBUG", "SECRET_KEY"}
    assert "hunter2" not in installation.output()
    assert not installation.data.exists()


def test_a_file_that_is_no_text_is_told_in_one_line(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (tmp_path / ".env").write_bytes(b"ADMIN_LOGINS=\xe9\n")
    exit_code, lines = installation.refused()
    assert exit_code == 2
    assert [line.partition(":")[0] for line in lines] == [".env"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRIAL_COOLDOWN_SECONDS", "inf"), ("TRIAL_COOLDOWN_SECONDS", "nan"), ("TRIAL_GUEST_SHARE", "nan"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"), ("TRIAL_GLOBAL_QUOTA", LARGE), ("TRASH_MINUTES", LARGE),
        ("IMAGE_URL_TTL_SECONDS", LARGE), ("GUEST_RETENTION_HOURS", LARGE), ("RESERVATION_GRACE_SECONDS", LARGE),
        ("WEB_CONCURRENCY", "0"), ("PORT", "0"), ("LOG_LEVEL", "loud"),
        ("GOOGLE_GEMINI_BASE_URL", "http://"), ("PUBLIC_BASE_URL", "https://a b"), ("PUBLIC_BASE_URL", "example.org"),
        ("PUBLIC_BASE_URL", "https://example.org/?a=b"), ("CORS_ORIGINS", "https://example.org/page"),
        ("CORS_ORIGINS", "*"), ("TRUSTED_PROXIES", "*"),
        ("GOOGLE_API_KEY", "AIza one"), ("GOOGLE_API_KEY", "AIza\none"), ("GOOGLE_API_KEY", "AIza\udcff"),
        ("R2_SECRET_ACCESS_KEY", "a b"), ("R2_ACCOUNT_ID", "a/b"), ("R2_BUCKET_NAME", "My Bucket"),
        ("R2_PRIVATE_BUCKET_NAME", "x"), ("R2_ENDPOINT_URL", "s3.example.org"),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused_at_the_start(name: str, value: str) -> None:
    assert named(**{name: value}) == {name}


def test_a_key_read_with_the_end_of_its_line_is_the_key_all_the_same() -> None:
    key = load_settings({"GOOGLE_API_KEY": "AIzaKey\n"}).providers.google_api_key
    assert key is not None
    assert key.get_secret_value() == "AIzaKey"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "https://[::1]:8443/sub/path/", "http://host_name"])
def test_addresses_are_taken_without_the_slash_at_their_end(url: str) -> None:
    assert load_settings({"GOOGLE_GEMINI_BASE_URL": url}).providers.google_gemini_base_url == url.rstrip("/")


def test_production_starts_with_a_secret_alone() -> None:
    settings = production()
    assert not settings.demo_enabled
    assert not settings.server.shows_docs
    assert settings.log_as_json


@pytest.mark.parametrize(
    "secret", ["", "x" * 40, "changeme" * 5, "your-secret-key-change-in-production", "0123456" * 5]
)
def test_production_refuses_a_secret_that_is_none(secret: str) -> None:
    assert named(ENVIRONMENT="production", SECRET_KEY=secret) == {"SECRET_KEY"}


def test_production_refuses_what_is_for_trying_things_out() -> None:
    unsafe = {"DEMO_PROVIDER_ENABLED": "true", "LOCAL_AUTH_ENABLED": "true", "FAIL_POINT": "reserved"}
    assert named(ENVIRONMENT="production", **unsafe) == {"SECRET_KEY", *unsafe}


def test_moderation_by_a_model_needs_a_key_and_is_on_with_one() -> None:
    key = {"GOOGLE_API_KEY": "AIzaKey"}
    assert named(AI_MODERATION_ENABLED="true") == {"AI_MODERATION_ENABLED"}
    assert not load_settings({}).moderates_by_model
    assert load_settings(key).moderates_by_model
    assert not load_settings(key | {"AI_MODERATION_ENABLED": "false"}).moderates_by_model


def test_others_are_let_in_only_when_it_is_said_who_may_register() -> None:
    assert named(HOST="0.0.0.0") == {"HOST"}
    assert load_settings({"HOST": "0.0.0.0", "LOCAL_AUTH_ENABLED": "false"}).server.host == "0.0.0.0"
    assert production(HOST="0.0.0.0").server.host == "0.0.0.0"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://nbl:p%40ss%2Fword@db.example.org:5432/nbl?sslmode=require",
        "postgres://nbl:secret@db/nbl",
        "postgresql://nbl@/nbl?host=/run/postgresql",
        "postgresql:///nbl",
        "postgresql://[::1]:5432/nbl",
        "postgresql://one:5432,two:5432/nbl?target_session_attrs=read-write",
    ],
)
def test_addresses_of_postgresql(address: str) -> None:
    assert load_settings({"DATABASE_URL": address}).database.database_url.get_secret_value() == address


@pytest.mark.parametrize(
    "address",
    [
        "mysql://nbl:hunter2@db/nbl", "postgresql+asyncpg://nbl:hunter2@db/nbl", "nbl:hunter2@db/nbl",
        "postgresql://nbl:hunter2@db", "postgresql://nbl:hunter2@db/", "postgresql://nbl:hun/ter2@db/nbl",
        "postgresql://nbl:hun#ter2@db/nbl", "postgresql://nbl:hun@ter2@db/nbl", "postgresql://nbl:hunter2@db/nbl x",
    ],
)  # fmt: skip
def test_what_is_no_address_of_postgresql_is_named_without_the_password(address: str) -> None:
    (problem,) = problems(DATABASE_URL=address)
    assert problem.startswith("DATABASE_URL: must look like postgresql://")
    assert "hun" not in problem
    assert "ter2" not in problem


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"HOST": "::1", "PORT": "9000"}, "http://[::1]:9000"),
        ({"HOST": "10.0.0.5", "LOCAL_AUTH_ENABLED": "true"}, "http://10.0.0.5:8000"),
        ({"PUBLIC_BASE_URL": "https://images.example/app/"}, "https://images.example/app"),
    ],
)
def test_links_without_a_request_start_with_the_public_address_or_where_we_listen(
    given: dict[str, str], expected: str
) -> None:
    assert load_settings(given).server.base_url == expected
