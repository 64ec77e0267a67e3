"""A list of the old app, in whatever state it is: what can be read of it is read."""

import io
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from services.history.models import Image
from services.history.object_metadata import ObjectMetadata
from services.legacy.entries import read_index
from services.legacy.images import completed
from services.legacy.models import LegacyEntry, Shelf
from services.legacy.report import Report
from services.reindex.models import Entry
from services.storage.local import LocalStorage
from services.storage.spool import Spool
from tests.legacy.moving import folder_of, milliseconds_of, put_in
from tests.legacy.old_app import SHANGHAI

ADA = folder_of(583231)
NAME = "2025/03/09/basic_101112_a_cat.png"
KEY = f"users/{ADA}/{NAME}"
BUCKET, DISK = Shelf("", ADA), Shelf("outputs/web/", ADA)
NOTHING = ObjectMetadata()

Read = Callable[..., Awaitable[tuple[list[LegacyEntry], dict[str, int]]]]


@pytest.fixture
def read(old: Path, tmp_path: Path) -> Read:
    """A list, of BUCKET unless said: its entries, and how often what was odd."""

    async def read(content: Any, shelf: Shelf = BUCKET) -> tuple[list[LegacyEntry], dict[str, int]]:
        put_in(old, shelf.index_key, content if isinstance(content, bytes) else orjson.dumps(content))
        report = Report(io.BytesIO(), lambda _: None)
        with ThreadPoolExecutor(1) as threads:
            source = LocalStorage(old, Spool(tmp_path / "spool"), threads)
            index = await read_index(source, shelf, ZoneInfo(SHANGHAI), report)
        return index.rest(), {kind: count for kind, count in report.odd.items() if count}

    return read


def plain(key: str = KEY, target: str = KEY, *, is_in_bucket: bool = False) -> LegacyEntry:
    return LegacyEntry(key, target, is_in_bucket, "", NOTHING, None, None)


async def test_an_entry_has_what_an_object_would_say_and_more(read: Read) -> None:
    fields = {
        "key": KEY, "filename": "basic_101112_a_cat.png", "prompt": "100%25 a cat\0", "mode": "chat", "duration": 7.25,
        "settings": {"aspect_ratio": "4:3", "resolution": "2K"}, "created_at": "2025-03-09T10:11:12.345678",
        "text_response": "here", "thinking": "hm", "session_id": "ab12", "chat_index": 0,
    }  # fmt: skip
    told = ObjectMetadata(
        mode="chat", duration=7.25, aspect_ratio="4:3", resolution="2K", session_id="ab12", chat_index=0,
        created_at=milliseconds_of("2025-03-09T10:11:12.345678"),
    )  # fmt: skip
    wanted = LegacyEntry(KEY, KEY, False, "100%25 a cat", told, "here", "hm")
    assert await read([fields]) == ([wanted], {})
    assert await read({"images": [fields]}) == ([wanted], {})
    assert await read(b"\xef\xbb\xbf" + orjson.dumps([fields])) == ([wanted], {})


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b'[{"key": "a"', b'"list"', b"7", b"{}", b'{"images": {}}', b"\xff\xfe", b'[{"key": "\xed\xa0\x80"}]'],
)
async def test_a_list_that_is_none_is_told_and_has_no_entries(read: Read, content: bytes) -> None:
    assert await read(content) == ([], {"broken_json": 1})


async def test_an_empty_list_is_one(read: Read) -> None:
    assert await read(b"[]") == await read(b"null") == ([], {})


@pytest.mark.parametrize(
    "entry",
    [None, "text", 7, [], {}, {"key": None}, {"key": 7}, {"key": ""}, {"key": "../../etc/passwd.png"},
     {"key": f"users/{ADA}/../x.png"}, {"key": f"users/{ADA}//x.png"}, {"key": f"/{KEY}"}, {"key": KEY[:-4]},
     {"filename": "../x.png"}, {"filename": "notes.txt"}],
)  # fmt: skip
async def test_an_entry_that_names_no_image_is_told_and_keeps_no_other_from_its_place(read: Read, entry: Any) -> None:
    assert await read([entry, {"key": KEY}]) == ([plain()], {"broken_entry": 1})


async def test_fields_that_are_not_what_they_should_be_are_left_out(read: Read) -> None:
    wrong = {
        "key": KEY, "prompt": 7, "mode": "BASIC; DROP", "duration": "soon", "settings": "4:3", "created_at": 1741527000,
        "text_response": [], "thinking": {}, "session_id": None, "chat_index": -1,
    }  # fmt: skip
    assert await read([wrong]) == ([plain()], {})
    assert await read([{"key": KEY, "duration": float("1e400"), "chat_index": 2**40}]) == ([plain()], {})


async def test_an_entry_of_somebody_elses_image_gives_nobody_anything(read: Read) -> None:
    other = f"users/{folder_of(1)}/{NAME}"
    assert await read([{"key": other}, {"key": NAME}]) == ([], {"elsewhere": 2})
    shared = Shelf("", None)
    assert await read([{"key": other}, {"key": NAME}], shared) == ([plain(NAME, NAME)], {"elsewhere": 1})
    mine = {"filename": NAME, "r2_key": other}
    assert await read([mine], DISK) == ([plain(f"outputs/web/{KEY}")], {})


async def test_on_the_disk_a_file_is_named_below_the_list_and_may_name_its_object(read: Read) -> None:
    on_disk = {"filename": NAME.replace("/", "\\")}
    assert await read({"images": [on_disk]}, DISK) == ([plain(f"outputs/web/{KEY}")], {})
    in_bucket = KEY.replace("a_cat", "A_cat")
    found = plain(f"outputs/web/{KEY}", in_bucket, is_in_bucket=True)
    assert await read({"images": [{"filename": NAME, "r2_key": in_bucket}]}, DISK) == ([found], {})
    for wrong in (None, 7, "", "../x.png", "notes.txt"):
        assert await read({"images": [{"filename": NAME, "r2_key": wrong}]}, DISK) == (
            [plain(f"outputs/web/{KEY}")],
            {},
        )


def told_by_metadata(prompt: str) -> Entry:
    image = Image(
        id="img_a", user_id="", folder_id=ADA, key=KEY, mode="basic", prompt=prompt, aspect_ratio="unknown",
        resolution="2K", provider="unknown", model="unknown", duration=1.5, created_at=5, width=1, height=1, size=1,
        mime_type="image/png", call_id="",
    )  # fmt: skip
    return Entry(image, None, ADA, "metadata", 5)


@pytest.mark.parametrize(
    ("in_metadata", "in_list", "prompt"),
    [("a cat on a ma", ["a cat on a mat"], "a cat on a mat"), ("a cat on a mat", ["a cat"], "a cat on a mat"),
     ("a dog", ["a cat", "a dog that barks"], "a dog that barks"), ("a bird", ["the newest", "older"], "the newest"),
     (" a  dog ", ["a cat", "a dog\nthat barks"], "a dog\nthat barks"), ("a dog", [""], "a dog")],
)  # fmt: skip
def test_of_prompts_the_longer_counts_and_of_entries_the_one_that_goes_with_the_object(
    in_metadata: str, in_list: list[str], prompt: str
) -> None:
    """The bytes and the metadata of an object were written together, last of all."""
    entries = tuple(LegacyEntry(KEY, KEY, False, text, NOTHING, f"of {text}", None) for text in in_list)
    whole = completed(told_by_metadata(in_metadata), entries)
    assert (whole.image.prompt, whole.source) == (prompt, "history")
    assert whole.image.text_response == f"of {prompt if prompt in in_list else in_list[0]}"
    assert (whole.image.resolution, whole.image.duration, whole.image.created_at) == ("2K", 1.5, 5)
