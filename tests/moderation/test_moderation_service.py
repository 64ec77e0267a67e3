import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from core.clients.database import open_database
from core.clock import Milliseconds, from_datetime
from core.errors import StorageUnavailable
from core.setting_groups import ModerationSettings
from core.settings import embedded_database
from services.moderation.audit_index import AuditIndex
from services.moderation.errors import ContentBlocked
from services.moderation.models import Decision, LayerResult, ModerationCheck, ModerationContext
from services.moderation.service import ModerationService
from services.storage.local import LocalStorage
from services.storage.spool import Spool
from tests.support.databases import databases

CONTEXT = ModerationContext(user_id="user_1", request_id="req_1", mode="basic")
START = from_datetime(datetime(2026, 1, 31, 12, 5, 9, 250_000, UTC))
HOUR = 3_600_000


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> Milliseconds:
        return self.now


class GatedStorage(LocalStorage):
    """A real folder whose reads can be held, made to fail and counted."""

    def __init__(self, folder: Path, spool: Spool, threads: ThreadPoolExecutor) -> None:
        super().__init__(folder, spool, threads)
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        self.away = False

    async def get(self, key: str) -> bytes:
        self.reads += 1
        await self.gate.wait()
        if self.away:
            raise StorageUnavailable("the bucket is away")
        return await super().get(key)


class House:
    """A service on a real folder, with hands on its clock, its bucket and its counter of lost entries."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor, index: AuditIndex) -> None:
        self.folder = folder
        self.index = index
        self.clock = Clock()
        self.lost = 0
        self.storage = GatedStorage(folder, Spool(folder.with_name("spool")), threads)
        self.service = self.make()

    def make(self, **settings: Any) -> ModerationService:
        self.service = ModerationService(
            self.storage, ModerationSettings(**settings), self.clock, self.index, on_audit_failure=self._count
        )
        return self.service

    def _count(self) -> None:
        self.lost += 1

    def write_list(self, data: bytes) -> None:
        path = self.folder / "config" / "banned_keywords.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def entries(self) -> list[Path]:
        return sorted(self.folder.glob("logs/content_moderation/*/*/*.json"))

    def entry(self) -> dict[str, Any]:
        (path,) = self.entries()
        entry: dict[str, Any] = orjson.loads(path.read_bytes())
        return entry

    async def blocks(self, prompt: str) -> bool:
        try:
            await self.service.check_keywords(prompt, CONTEXT)
        except ContentBlocked:
            return True
        return False

    async def until_blocks(self, prompt: str) -> None:
        for _ in range(1000):
            if await self.blocks(prompt):
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"{prompt!r} still passes")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
async def house(tmp_path: Path, threads: ThreadPoolExecutor, empty_database: Path) -> AsyncIterator[House]:
    url = databases.laid_out(tmp_path, empty_database).get("DATABASE_URL", "")
    database = open_database(url, embedded_database(tmp_path), 1)
    index = AuditIndex(database, with_prompts=False, on_failure=lambda: None)
    house = House(tmp_path / "bucket", threads, index)
    yield house
    await house.service.close()
    await database.close()


async def test_a_blocked_prompt_is_refused_without_naming_the_word_and_audited(house: House) -> None:
    house.make(banned_keywords=("durian",))
    with pytest.raises(ContentBlocked) as caught:
        await house.service.check_keywords("a D U R I A N pie", CONTEXT)
    assert (caught.value.code, caught.value.status, caught.value.type) == ("CONTENT_BLOCKED", 400, "safety_blocked")
    assert caught.value.details == {"reason": "keyword"}
    assert "durian" not in str(caught.value).lower()

    (path,) = house.entries()
    entry = house.entry()
    assert path.parent.name == "2026-01-31"
    assert path.name == f"120509_{entry['check_id']}.json"
    assert entry["check_id"] in str(caught.value)
    (layer,) = entry.pop("layers")
    assert layer["duration_ms"] == entry.pop("duration_ms") >= 0
    assert {name: layer[name] for name in ("layer", "decision", "category")} == {
        "layer": "keyword",
        "decision": "blocked",
        "category": None,
    }
    del entry["check_id"]
    assert entry == {
        "timestamp": "2026-01-31T12:05:09.250Z",
        "prompt_sha256": hashlib.sha256(b"a D U R I A N pie").hexdigest(),
        "user_id": "user_1",
        "request_id": "req_1",
        "mode": "basic",
        "decision": "blocked",
    }


async def test_a_passed_prompt_has_one_entry_once_its_check_is_finished(house: House) -> None:
    check = await house.service.check_keywords("a quiet harbour", CONTEXT)
    assert house.entries() == []
    check = check.with_layer(LayerResult("ai", Decision.BLOCKED, 12.5, "violence"))
    await house.service.finish(check)
    await house.service.finish(check)
    entry = house.entry()
    assert [layer["layer"] for layer in entry["layers"]] == ["keyword", "ai"]
    assert entry["layers"][1] == {"layer": "ai", "decision": "blocked", "category": "violence", "duration_ms": 12.5}
    assert entry["decision"] == "blocked"
    assert entry["duration_ms"] == pytest.approx(entry["layers"][0]["duration_ms"] + 12.5, abs=0.01)
    assert "prompt" not in entry


async def test_the_prompt_is_kept_where_the_operator_says_so(house: House) -> None:
    service = house.make(audit_log_prompts=True)
    await service.finish(await service.check_keywords("港口 \ud800", CONTEXT))
    assert house.entry()["prompt"] == "港口 ?"


async def test_a_switched_off_audit_keeps_nothing_and_still_blocks(house: House) -> None:
    service = house.make(audit_logging_enabled=False)
    assert await house.blocks("nsfw")
    await service.finish(await service.check_keywords("harbour", CONTEXT))
    assert house.entries() == []


async def test_a_switched_off_filter_checks_nothing_and_audits_nothing(house: House) -> None:
    service = house.make(content_filter_enabled=False)
    await service.start()
    check = await service.check_keywords("nsfw", CONTEXT)
    await service.finish(check)
    assert (check.layers, house.entries(), house.storage.reads) == ((), [], 0)


@pytest.mark.parametrize("place", ["logs", "logs/content_moderation"])
@pytest.mark.parametrize("loop", [True, False])
async def test_a_lost_entry_is_logged_and_counted_and_changes_no_decision(house: House, place: str, loop: bool) -> None:
    blocker = house.folder / place
    blocker.parent.mkdir(parents=True, exist_ok=True)
    if loop:
        blocker.symlink_to(blocker)
    else:
        blocker.write_bytes(b"a file where a folder should be")
    with capture_logs() as logs:
        check = await house.service.check_keywords("harbour", CONTEXT)
        await house.service.finish(check)
        assert await house.blocks("nsfw")
    assert house.lost == 2
    assert [(log["event"], log["log_level"]) for log in logs] == [("moderation_audit_lost", "error")] * 2


async def test_without_a_list_in_the_bucket_the_setting_and_the_built_in_list_hold(house: House) -> None:
    house.make(banned_keywords=("durian",))
    assert await house.blocks("durian")
    assert await house.blocks("nsfw")
    assert not await house.blocks("harbour")


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
async def test_the_list_in_the_bucket_takes_the_place_of_the_others(house: House, prefix: bytes) -> None:
    house.make(banned_keywords=("durian",))
    house.write_list(prefix + '{"keywords": ["Mango", "榴莲"]}'.encode())
    assert await house.blocks("mango")
    assert await house.blocks("一个榴莲蛋糕")
    assert not await house.blocks("durian nsfw")


async def test_the_list_is_read_again_after_an_hour_and_nobody_waits(house: House) -> None:
    house.write_list(b'{"keywords": ["mango"]}')
    assert await house.blocks("mango")
    house.write_list(b'{"keywords": ["papaya"]}')
    house.clock.now += HOUR - 1
    assert not await house.blocks("papaya")
    await asyncio.sleep(0)  # a reading in the background would start here
    assert house.storage.reads == 1

    house.storage.gate.clear()
    house.clock.now += 1
    async with asyncio.timeout(10):
        for _ in range(20):
            assert await house.blocks("mango")
    assert house.storage.reads == 2
    house.storage.gate.set()
    await house.until_blocks("papaya")
    assert not await house.blocks("mango")
    assert house.storage.reads == 2


async def test_a_list_that_was_removed_gives_way_to_the_built_in_list(house: House) -> None:
    house.write_list(b'{"keywords": ["mango"]}')
    assert await house.blocks("mango")
    (house.folder / "config" / "banned_keywords.json").unlink()
    house.clock.now += HOUR
    await house.until_blocks("nsfw")
    assert not await house.blocks("mango")


async def test_the_first_prompts_share_one_reading_and_one_that_hangs_up_does_not_end_it(house: House) -> None:
    house.write_list(b'{"keywords": ["mango"]}')
    house.storage.gate.clear()
    checks = [asyncio.create_task(house.blocks("mango")) for _ in range(5)]
    await asyncio.sleep(0)
    checks[0].cancel()
    await asyncio.sleep(0)
    house.storage.gate.set()
    assert await asyncio.gather(*checks[1:]) == [True] * 4
    assert checks[0].cancelled()
    assert house.storage.reads == 1


BROKEN = [b"", b"{", b"[]", b'{"keywords": "mango"}', b'{"keywords": ["mango", 1]}', b"{}", b"\xff", b"[" * 100_000]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
async def test_a_broken_list_leaves_the_last_good_one_and_one_warning(house: House, data: bytes) -> None:
    house.write_list(b'{"keywords": ["mango"]}')
    assert await house.blocks("mango")
    house.write_list(data)
    house.clock.now += HOUR
    with capture_logs() as logs:
        for _ in range(1000):
            assert await house.blocks("mango")
            if logs:
                break
            await asyncio.sleep(0.01)
        assert await house.blocks("mango")
    assert [(log["event"], log["log_level"]) for log in logs] == [("banned_keywords_unreadable", "warning")]

    house.write_list(b'{"keywords": ["papaya"]}')
    house.clock.now += 60_000
    await house.until_blocks("papaya")


async def test_a_bucket_that_is_away_at_the_start_leaves_the_built_in_list_until_it_is_back(house: House) -> None:
    house.write_list(b'{"keywords": ["mango"]}')
    house.storage.away = True
    with capture_logs() as logs:
        await house.service.start()
    assert [log["event"] for log in logs] == ["banned_keywords_unreadable"]
    assert await house.blocks("nsfw")
    house.storage.away = False
    house.clock.now += 60_000
    await house.until_blocks("mango")


async def test_closing_ends_a_reading_under_way(house: House) -> None:
    await house.service.start()
    house.storage.gate.clear()
    house.clock.now += HOUR
    assert not await house.blocks("harbour")
    before = asyncio.all_tasks()
    async with asyncio.timeout(5):
        await house.service.close()
    assert len(before - asyncio.all_tasks()) == 1


def test_a_check_is_blocked_when_one_layer_blocks() -> None:
    check = ModerationCheck("mod_1", "a prompt", CONTEXT, START)
    assert check.decision is Decision.PASSED
    check = check.with_layer(LayerResult("keyword", Decision.BLOCKED, 1.0))
    assert check.with_layer(LayerResult("ai", Decision.PASSED, 2.0)).decision is Decision.BLOCKED
