"""scripts/init_prompts.py: the library grows by the text model, and a second run changes nothing."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.prompts.models import CATEGORIES, LANGUAGES
from tests.conftest import OPERATOR_KEY, OpenService
from tests.prompts.asking import listed
from tests.support.databases import databases

ROOT = Path(__file__).parents[2]
COUNT = 12
FILES = [f"{category}_{language}.json" for category in CATEGORIES for language in LANGUAGES]


def drafts(*names: str) -> str:
    found = [{"title": name.title(), "prompt": f"{name} on a plate, hard light", "tags": ["fruit"]} for name in names]
    return orjson.dumps({"prompts": found}).decode()


class Command:
    """The command as an operator runs it, beside a service or without one."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self.data = folder / "data"
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PATH", "HOME", "COVERAGE"))}
        own = {"DATA_DIR": str(self.data), "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
        self._environment = {**kept, **own, **databases.settings(self.data), **settings}
        self._folder = folder

    async def run(self, count: int = COUNT) -> tuple[int, list[str]]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "scripts.init_prompts", "--count", str(count), cwd=self._folder,
            env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        return process.returncode or 0, out.decode().splitlines()

    def file(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads((self.data / "storage/prompts/library" / name).read_bytes())
        return found

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.data / "storage/prompts/library").glob("*"))


@pytest.fixture
def command(tmp_path: Path, redis_url: str, empty_database: Path, gemini: GeminiStandin) -> Command:
    databases.laid_out(tmp_path / "data", empty_database)
    return Command(tmp_path, redis_url, GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)


async def test_it_fills_each_file_once_and_a_second_run_asks_for_nothing(
    command: Command, gemini: GeminiStandin, open_service: OpenService
) -> None:
    gemini.configure_text(text=drafts("plum", "quince", "plum", "PLUM", "medlar"))
    code, told = await command.run()
    assert code == 0, told
    assert told[-1] == "in all 144 prompts, 24 of them new"
    assert "prompts/library/food_en.json: 12 prompts, 2 of them new" in told
    assert len(gemini.text_requests()) == len(FILES)
    assert command.files() == sorted(FILES)
    file = command.file("food_en.json")
    assert [entry["description"] for entry in file["prompts"]] == ["Plum", "Quince"]
    assert (file["category"], file["language"], file["count"], file["version"]) == ("food", "en", 2, 1)
    assert file["prompts"][0] == {
        "prompt": "plum on a plate, hard light", "description": "Plum", "tags": ["fruit"], "source": "generated",
    }  # fmt: skip
    # What there is already is told to the model, so that it writes something else.
    known = [call["body"]["contents"][0]["parts"][0]["text"] for call in gemini.text_requests()]
    assert [index for index, text in enumerate(known) if "Ramen at midnight" in text] == [FILES.index("food_en.json")]

    before = {name: command.file(name) for name in FILES}
    gemini.clear_requests()
    code, told = await command.run()
    assert (code, told[-1]) == (0, "in all 144 prompts, 0 of them new")
    assert gemini.text_requests() == []
    assert {name: command.file(name) for name in FILES} == before

    service = await open_service()
    assert (await listed(await service.guest(), category="food", lang="en"))["total"] == COUNT


async def test_a_run_that_breaks_off_is_gone_on_with(command: Command, gemini: GeminiStandin) -> None:
    gemini.script_text({"text": drafts("plum", "quince"), "times": 3}, {"mode": "error", "status": 500})
    code, told = await command.run()
    assert code == 1
    assert any(line.startswith("not finished, run it again") for line in told)
    assert len(command.files()) == 3
    gemini.configure_text(text=drafts("plum", "quince"))
    gemini.clear_requests()
    code, told = await command.run()
    assert (code, told[-1]) == (0, "in all 144 prompts, 18 of them new")
    assert len(gemini.text_requests()) == len(FILES) - 3


async def test_a_model_that_repeats_itself_is_given_up(command: Command, gemini: GeminiStandin) -> None:
    gemini.configure_text(text=drafts("plum"))
    code, told = await command.run()
    assert (code, told[-1]) == (1, "in all 132 prompts, 12 of them new")
    assert len(gemini.text_requests()) == 3 * len(FILES)


async def test_what_stands_in_a_file_stays(command: Command, gemini: GeminiStandin) -> None:
    path = command.data / "storage/prompts/library/food_en.json"
    path.parent.mkdir(parents=True)
    old = {"prompts": [{"prompt": "a pear", "description": "Pear", "tags": [], "source": "ai", "likes": 3}], "by": "us"}
    path.write_bytes(orjson.dumps(old))
    broken = path.with_name("food_zh.json")
    broken.write_bytes(b"{")
    gemini.configure_text(text=drafts("plum", "quince"))
    code, _ = await command.run()
    assert code == 1, "it writes over no file that it cannot read"
    assert broken.read_bytes() == b"{"
    file = command.file("food_en.json")
    assert [entry["description"] for entry in file["prompts"]] == ["Pear", "Plum"]
    assert (file["by"], file["prompts"][0]["likes"], file["count"]) == ("us", 3, 2)


async def test_without_a_key_it_says_so(tmp_path: Path, redis_url: str, empty_database: Path) -> None:
    databases.laid_out(tmp_path / "data", empty_database)
    code, told = await Command(tmp_path, redis_url).run()
    assert code == 2
    assert told[0] == "GOOGLE_API_KEY: is needed, the text model writes the prompts"
