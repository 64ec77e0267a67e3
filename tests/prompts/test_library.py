"""The library: what comes with the service, and what an installation makes of it."""

import re
from pathlib import Path
from typing import Any

import orjson
from structlog.testing import capture_logs

from services.prompts.library import built_in_file
from services.prompts.library_file import id_of, prompts_of
from services.prompts.models import CATEGORIES, LANGUAGES, LibraryPrompt
from tests.prompts.asking import listed, mark
from tests.support.service import RunningService

BUILT_IN = {
    (category, language): prompts_of(built_in_file(category, language), category, language)
    for category in CATEGORIES
    for language in LANGUAGES
}
ALL = [prompt for prompts in BUILT_IN.values() for prompt in prompts]
HAN = re.compile(r"[\u4e00-\u9fff]")


def write_file(service: RunningService, name: str, content: bytes) -> Path:
    path = service.storage_dir / "prompts/library" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def old_file(*prompts: dict[str, Any], **fields: Any) -> bytes:
    document = {"category": "food", "language": "en", "prompts": prompts, "count": len(prompts), "version": "1.0"}
    return orjson.dumps(document | {"updated_at": "2025-12-01T08:00:00.123456"} | fields)


def test_it_has_ten_of_each_and_none_twice() -> None:
    assert {place: len(prompts) >= 10 for place, prompts in BUILT_IN.items()} == dict.fromkeys(BUILT_IN, True)
    for field in ("id", "prompt", "title"):
        assert len({getattr(prompt, field) for prompt in ALL}) == len(ALL)


def is_one_to_use(prompt: LibraryPrompt) -> bool:
    """Long enough to say subject, light, means and mood; in its own language; with a title and tags."""
    share = len(HAN.findall(prompt.prompt)) / len(prompt.prompt)
    if prompt.language == "zh":
        says_enough = 90 <= len(prompt.prompt) <= 200 and share > 0.6
    else:
        says_enough = 40 <= len(prompt.prompt.split()) <= 90 and share == 0
    is_labelled = 2 <= len(prompt.title) <= 40 and 2 <= len(prompt.tags) <= 5 and prompt.source == "built-in"
    return says_enough and is_labelled and prompt.prompt == " ".join(prompt.prompt.split())


def test_each_prompt_is_one_to_use() -> None:
    assert [(prompt.title, prompt.prompt) for prompt in ALL if not is_one_to_use(prompt)] == []


async def test_it_is_listed_by_category_and_language(service: RunningService) -> None:
    guest = await service.guest()
    page = await listed(guest, limit=100)
    assert (page["total"], len(page["prompts"]), page["has_more"]) == (120, 100, True)
    assert {entry["category"]: entry["count"] for entry in page["categories"]} == dict.fromkeys(CATEGORIES, 20)
    page = await listed(guest, lang="zh", category="food", limit=4, offset=8)
    assert [entry["title"] for entry in page["prompts"]] == [entry.title for entry in BUILT_IN["food", "zh"][8:]]
    assert (page["total"], page["has_more"]) == (10, False)
    # The other categories are told of, whichever is asked for.
    assert {entry["category"]: entry["count"] for entry in page["categories"]} == dict.fromkeys(CATEGORIES, 10)
    first = page["prompts"][0]
    assert (first["is_mine"], first["is_favorite"], first["source"], first["lang"]) == (False, False, "built-in", "zh")
    assert (await listed(guest, category="nothing"))["total"] == 0
    assert (await listed(guest, offset=10_000))["prompts"] == []


async def test_an_installations_file_is_added_to_the_built_in_one(service: RunningService) -> None:
    """As the app before this one wrote it: descriptions for titles, or none at all."""
    known = BUILT_IN["food", "en"][0]
    write_file(
        service,
        "food_en.json",
        old_file(
            {"prompt": "a plum on a plate", "description": "Plum", "tags": ["fruit"], "source": "ai"},
            {"prompt": known.prompt, "description": "Known", "tags": [], "source": "ai"},
            {"prompt": "one two three four five six seven eight nine", "description": None, "tags": []},
            {"prompt": "  ", "description": "says nothing"},
        ),
    )
    guest = await service.guest()
    page = await listed(guest, category="food", lang="en")
    assert page["total"] == 12
    plum, untitled = page["prompts"][10:]
    assert (plum["title"], plum["tags"], plum["source"]) == ("Plum", ["fruit"], "ai")
    assert plum["id"] == id_of("food", "en", "a plum on a plate")
    assert plum["created_at"] == "2025-12-01T08:00:00.123Z"
    assert untitled["title"] == "one two three four five six seven eight"
    assert page["prompts"][0]["title"] == known.title


async def test_an_installations_file_can_stand_in_place_of_the_built_in_one(service: RunningService) -> None:
    write_file(service, "food_en.json", old_file({"prompt": "a plum", "description": "Plum"}, replace=True))
    guest = await service.guest()
    page = await listed(guest, category="food", lang="en")
    assert [entry["title"] for entry in page["prompts"]] == ["Plum"]
    assert (await listed(guest, category="food"))["total"] == 11


async def test_a_broken_file_leaves_the_built_in_one_and_a_warning(service: RunningService) -> None:
    contents = [b"", b"{", b"[]", b'{"prompts": 5}', b'{"prompts": [{"tags": []}]}', b"\xff"]
    for category, content in zip(CATEGORIES, contents, strict=True):
        write_file(service, f"{category}_en.json", content)
    guest = await service.guest()
    with capture_logs() as logs:
        assert (await listed(guest, lang="en"))["total"] == 60
    assert {log["object"] for log in logs if log["event"] == "prompt library not read"} == {
        f"prompts/library/{category}_en.json" for category in CATEGORIES
    }


async def test_a_favorite_of_the_library_is_each_users_own(service: RunningService) -> None:
    a, b = await service.guest(), await service.guest()
    chosen = [BUILT_IN["art", "zh"][3].id, BUILT_IN["food", "en"][1].id]
    for prompt_id in (*chosen, chosen[0]):
        await mark(a, prompt_id)
    page = await listed(a, favorites_only=True)
    assert {entry["id"] for entry in page["prompts"]} == set(chosen)
    assert all(entry["is_favorite"] for entry in page["prompts"])
    assert page["categories"] == [{"category": "art", "count": 1}, {"category": "food", "count": 1}]
    assert (await listed(b, favorites_only=True))["total"] == 0
    await mark(a, chosen[0], favorite=False)
    assert [entry["id"] for entry in (await listed(a, favorites_only=True))["prompts"]] == chosen[1:]


async def test_nobody_changes_or_deletes_the_library(service: RunningService) -> None:
    guest = await service.guest()
    path = f"/api/prompts/{BUILT_IN['art', 'zh'][3].id}"
    assert (await guest.client.patch(path, json={"title": "mine"})).status_code == 404
    assert (await guest.client.delete(path)).status_code == 404
