"""What the documents say follows from the code, and what the code does stands in them."""

from pathlib import Path

import pytest
from redis import Redis

from core.settings import setting_groups
from scripts.docs import documents, error_classes, redis_keys
from tests.conftest import OpenService


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_generated_document_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == documents()[path], "run `python -m scripts.docs`"


def test_every_setting_error_and_key_is_listed() -> None:
    """Against a generator that reads nothing."""
    contents = {path.name: text for path, text in documents().items()}
    settings = [name.upper() for group in setting_groups().values() for name in group.model_fields]
    assert len(settings) > 80
    for name in settings:
        assert f"`{name}`" in contents["settings.md"]
        assert f"\n#{name}=" in contents[".env.example"]
    codes = {error.code for error in error_classes()}
    assert {"VALIDATION_ERROR", "QUOTA_EXCEEDED", "CONTENT_BLOCKED", "PROVIDER_TIMEOUT"} <= codes
    assert all(f"`{code}`" in contents["errors.md"] for code in codes)
    assert all(f"`{key.pattern}`" in contents["redis.md"] for key in redis_keys())


async def test_every_key_in_redis_belongs_to_a_documented_family(open_service: OpenService, redis_url: str) -> None:
    service = await open_service()
    guest = await service.guest()
    await guest.image()
    await guest.client.post("/api/auth/refresh", json={"refresh_token": guest.tokens["refresh_token"]})
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        found = list(redis.scan_iter())
    assert len(found) >= 8
    unknown = [key for key in found if not any(family.matches(key) for family in redis_keys())]
    assert unknown == []
