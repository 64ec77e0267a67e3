"""Prompt library, banned keywords, favorites and today's pool."""

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection

from core.clock import now_ms, utc_day
from services.accounts.users import find_owner
from services.prompts.library import built_in_file
from services.prompts.library_file import prompts_of
from services.prompts.models import OwnPrompt
from services.prompts.store import everything, library_favorites
from services.quota.ledger import charges
from services.quota.models import QuotaIdentity
from tests.legacy.moving import folder_of, moved, put_in
from tests.reindex.shelf import in_storage, state
from tests.support.databases import databases
from tests.support.parts import Parts

ADA = folder_of(583231)
LIBRARY = "prompts/library/portrait_en.json"
KEYWORDS = "config/banned_keywords.json"
OLD_PROMPT = {"prompt": "an old sailor in soft light", "description": "A sailor", "tags": ["sea"], "source": "ai"}


def document(*prompts: Any) -> bytes:
    """As the old app wrote it; in its bucket it sometimes forgot the language."""
    return orjson.dumps(
        {"category": "portrait", "prompts": prompts, "count": len(prompts), "updated_at": "2025-03-09T10:00:00",
         "version": 1}
    )  # fmt: skip


def stored(parts: Parts, key: str) -> Any:
    return orjson.loads(in_storage(parts, key).read_bytes())


async def test_a_library_moves_in_beside_what_is_here_prompt_by_prompt(parts: Parts, old: Path) -> None:
    put_in(
        old,
        LIBRARY,
        document(
            OLD_PROMPT,
            {"prompt": "bare", "tags": "no list", "more": 1},
            {"prompt": "mine"},
            OLD_PROMPT,
            {"tags": []},
            "odd",
        ),
    )
    put_in(old, "data/prompts/food_zh.json", document({"prompt": "一碗热汤"}))
    put_in(old, "data/prompts/metadata.json", b"{}")
    put_in(old, "prompts/library/art_en.json", b'{"prompts": [')
    put_in(old, "prompts/library/product_en.json", b'{"prompts": {}}')
    here = {"title": "Mine", "prompt": "mine", "description": "changed here", "tags": [], "source": "library"}
    put_in(in_storage(parts, ""), LIBRARY, orjson.dumps({"prompts": [here], "replace": True}))

    report = await moved(parts, old)

    assert (report["library_added"], report["library_there"]) == (3, 1)
    assert report["odd"] == {"broken_entry": 2, "broken_json": 2, "unknown": 1}
    library = stored(parts, LIBRARY)
    assert library["prompts"] == [
        here, OLD_PROMPT, {"prompt": "bare", "description": "", "source": "", "tags": [], "more": 1},
    ]  # fmt: skip
    assert (library["category"], library["language"], library["count"], library["version"]) == ("portrait", "en", 3, 1)
    assert library["replace"], "what else stands in a file that is here stays"
    (soup,) = stored(parts, "prompts/library/food_zh.json")["prompts"]
    assert soup == {"prompt": "一碗热汤", "description": "", "source": "", "tags": []}
    before = state(parts)
    assert (await moved(parts, old))["library_added"] == 0
    assert state(parts) == before


async def test_a_prompt_or_keyword_that_was_removed_here_does_not_come_back(parts: Parts, old: Path) -> None:
    put_in(old, LIBRARY, document(OLD_PROMPT, {"prompt": "another"}))
    put_in(old, KEYWORDS, orjson.dumps({"keywords": ["gore", "spam"]}))
    await moved(parts, old)
    put_in(in_storage(parts, ""), LIBRARY, document({"prompt": "another"}))
    put_in(in_storage(parts, ""), KEYWORDS, orjson.dumps({"keywords": ["spam"]}))
    before = state(parts)

    await moved(parts, old)

    assert state(parts) == before
    put_in(old, KEYWORDS, orjson.dumps({"keywords": ["gore", "spam", "new"]}))
    await moved(parts, old)
    assert stored(parts, KEYWORDS) == {"keywords": ["spam", "gore", "new"]}


async def test_banned_keywords_are_those_of_both_and_hold_from_then_on(parts: Parts, old: Path) -> None:
    put_in(old, KEYWORDS, b"\xef\xbb\xbf" + orjson.dumps({"keywords": ["zebracrossing", "Spam", "zebracrossing"]}))
    put_in(in_storage(parts, ""), KEYWORDS, orjson.dumps({"keywords": ["Spam"]}))

    told = await moved(parts, old, dry_run=True)
    assert stored(parts, KEYWORDS) == {"keywords": ["Spam"]}
    report = await moved(parts, old)

    assert (told["keywords_added"], report["keywords_added"]) == (1, 1)
    assert stored(parts, KEYWORDS) == {"keywords": ["Spam", "zebracrossing"]}


async def test_keywords_that_cannot_be_read_leave_those_that_are_here(parts: Parts, old: Path) -> None:
    put_in(old, KEYWORDS, b'{"keywords": "all of them"}')
    put_in(in_storage(parts, ""), KEYWORDS, orjson.dumps({"keywords": ["Spam"]}))
    report = await moved(parts, old)
    assert (report["odd"], stored(parts, KEYWORDS)) == ({"broken_json": 1}, {"keywords": ["Spam"]})


def kept_by(parts: Parts, folder_id: str) -> list[tuple[str, str, tuple[str, ...], str, bool]]:
    """Title, text, tags and category of each own prompt of the folder's account, and whether it is a favorite."""

    def read(connection: Connection) -> list[tuple[OwnPrompt, bool]]:
        user_id = find_owner(connection, None, folder_id)
        return [] if user_id is None else everything(connection, user_id)

    found = databases.run(parts.container.settings.storage.data_dir, read)
    return [(own.title, own.prompt, own.tags, own.category, is_favorite) for own, is_favorite in found]


async def test_favorites_are_their_peoples_once_and_those_of_the_library_are_marked_there(
    parts: Parts, old: Path
) -> None:
    marked = {**OLD_PROMPT, "category": "portrait", "favorited_at": "2025-03-09T10:00:00.5"}
    ours = prompts_of(built_in_file("food", "en"), "food", "en")[0]
    folder = "data/prompts/favorites"
    listed = [marked, {"prompt": "two\0"}, marked, {"prompt": ""}, {"prompt": ours.prompt}]
    put_in(old, f"{folder}/{ADA}/favorites.json", orjson.dumps(listed))
    put_in(old, f"{folder}/shared/favorites.json", orjson.dumps([{"prompt": "everybody's"}]))
    put_in(old, f"{folder}/None/favorites.json", orjson.dumps([]))
    put_in(old, f"{folder}/{folder_of(1)}/favorites.json", b"[")

    dry = await moved(parts, old, dry_run=True)
    assert (dry["favorites"], dry["favorites_kept"], kept_by(parts, ADA)) == (4, 0, [])
    report = await moved(parts, old)
    assert (report["favorites"], report["favorites_kept"]) == (4, 3)
    assert report["odd"] == dry["odd"] == {"broken_entry": 1, "broken_json": 1, "no_account": 1}
    hers = [
        ("A sailor", OLD_PROMPT["prompt"], ("sea",), "portrait", True),
        ("two", "two", (), "other", True),
    ]
    assert kept_by(parts, ADA) == hers
    again = await moved(parts, old, shared_to="583231")
    assert again["favorites_kept"] == 1
    assert kept_by(parts, ADA) == [*hers, ("everybody's", "everybody's", (), "other", True)]
    liked = databases.run(
        parts.container.settings.storage.data_dir,
        lambda connection: library_favorites(connection, find_owner(connection, None, ADA) or ""),
    )
    assert liked == {ours.id}


async def test_what_was_used_of_todays_pool_stays_used_once_and_when_redis_is_lost(parts: Parts, old: Path) -> None:
    today = utc_day(now_ms())
    put_in(old, f"quota/trial_quota_{today}.json", orjson.dumps(
        {"date": today, "global_used": 17, "mode_usage": {"basic_1k": 17}, "last_generation": 1741527000.5}
    ))  # fmt: skip
    put_in(old, "quota/trial_quota_2025-03-09.json", orjson.dumps({"date": "2025-03-09", "global_used": 40}))
    held = await parts.reserve()
    await parts.charge(held)
    await parts.quota.commit(held)

    assert (await moved(parts, old, dry_run=True))["pool_points"] == 17
    assert await used(parts) == 1
    report = await moved(parts, old)
    assert (report["pool_points"], report["pool_carried"], await used(parts)) == (17, True, 18)
    again = await moved(parts, old)
    assert (again["pool_points"], again["pool_carried"], await used(parts)) == (17, False, 18)

    await parts.redis.flushall()
    assert await used(parts) == 18
    mine = await parts.quota.status(QuotaIdentity("usr_b"))
    assert all(entry.usage.used == 0 for entry in mine.modes), "no user's own limits are touched"


async def used(parts: Parts) -> int:
    return (await parts.quota.status(QuotaIdentity("usr_nobody"))).pool.used


async def test_a_pool_that_cannot_be_read_is_told(parts: Parts, old: Path) -> None:
    for content in (b"{", b"[]", b'{"global_used": "many"}', b'{"global_used": -3}', b'{"global_used": 1e99}'):
        put_in(old, f"quota/trial_quota_{utc_day(now_ms())}.json", content)
        report = await moved(parts, old)
        assert sum(report["odd"].values()) == 1, content
    ((count,),) = databases.ask(parts.container.settings.storage.data_dir, f"SELECT count(*) FROM {charges.name}")
    assert count == 0
