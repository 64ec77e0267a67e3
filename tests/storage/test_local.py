"""Local files keep the storage contract, and say so when their disk is broken."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.errors import StorageUnavailable
from services.storage.base import Storage
from services.storage.local import LocalStorage
from services.storage.names import image_stem, other_stem, record_key, slug, stem_of
from services.storage.spool import STALE_AFTER_SECONDS, Spool
from tests.storage.contract import BINARY, KEY, StorageContract, is_there, joined, listed

Use = Callable[[Storage, Path], Awaitable[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def storage(folder: Path, spool: Spool) -> Iterator[LocalStorage]:
    with ThreadPoolExecutor(4) as threads:
        yield LocalStorage(folder, spool, threads)


class TestLocalStorage(StorageContract):
    """All of the contract, with the fixtures above."""


async def _put(storage: Storage, _draft: Path) -> None:
    await storage.put(KEY, b"x", content_type=BINARY)


async def _put_file(storage: Storage, draft: Path) -> None:
    await storage.put_file(KEY, draft, content_type="image/png")


async def _get(storage: Storage, _draft: Path) -> object:
    return await storage.get(KEY)


async def _stat(storage: Storage, _draft: Path) -> object:
    return await storage.stat(KEY)


async def _stream(storage: Storage, _draft: Path) -> object:
    return await joined(storage.stream(KEY))


async def _delete(storage: Storage, _draft: Path) -> None:
    await storage.delete(KEY)


async def _delete_many(storage: Storage, _draft: Path) -> object:
    return await storage.delete_many([KEY])


async def _list(storage: Storage, _draft: Path) -> object:
    return await listed(storage, "users/")


async def _check(storage: Storage, _draft: Path) -> None:
    await storage.check()


def remove_folder(folder: Path) -> None:
    folder.rmdir()


def put_a_file_in_place_of(folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"")


USES: list[Use] = [_put, _put_file, _get, _stat, _stream, _delete, _delete_many, _list, _check]


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "draft"
    path.write_bytes(b"the image")
    return path


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_a_file_where_the_storage_belongs_is_unavailable_storage(
    folder: Path, storage: LocalStorage, draft: Path, use: Use
) -> None:
    put_a_file_in_place_of(folder)
    with pytest.raises(StorageUnavailable):
        await use(storage, draft)
    assert is_there(draft)


@pytest.mark.parametrize("use", [_get, _stat, _stream, _delete, _delete_many, _list], ids=lambda use: use.__name__)
async def test_a_folder_that_went_away_does_not_pass_for_an_empty_one(
    folder: Path, storage: LocalStorage, draft: Path, use: Use
) -> None:
    remove_folder(folder)
    with pytest.raises(StorageUnavailable):
        await use(storage, draft)


@pytest.mark.parametrize("use", [_put, _put_file], ids=lambda use: use.__name__)
async def test_a_file_where_a_users_folder_belongs_is_unavailable_storage(
    folder: Path, tmp_path: Path, storage: LocalStorage, draft: Path, use: Use
) -> None:
    (folder / "users").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        await use(storage, draft)
    assert is_there(draft)
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_storage_that_loops_is_unavailable(folder: Path, storage: LocalStorage, draft: Path) -> None:
    (folder / "users").symlink_to("users")
    for use in (_put, _put_file, _get, _stat, _stream, _delete):
        with pytest.raises(StorageUnavailable):
            await use(storage, draft)


async def test_a_file_that_cannot_go_does_not_keep_the_others(folder: Path, storage: LocalStorage) -> None:
    (folder / "loop").symlink_to("loop")
    for key in ("a/1.png", "a/2.png"):
        await storage.put(key, b"x", content_type=BINARY)
    left = await storage.delete_many(["a/1.png", "loop/3.png", "a/2.png"])
    assert list(left) == ["loop/3.png"]
    assert not (folder / "a").exists(), "a folder that is empty goes too"


async def test_without_a_spool_nothing_is_put_and_the_check_fails(
    folder: Path, tmp_path: Path, storage: LocalStorage, draft: Path
) -> None:
    (tmp_path / "spool").rmdir()
    for use in (_put, _check):
        with pytest.raises(StorageUnavailable):
            await use(storage, draft)
    assert await listed(storage, "") == []


async def test_the_private_message_names_the_cause_and_the_public_part_no_path(
    folder: Path, storage: LocalStorage, draft: Path
) -> None:
    put_a_file_in_place_of(folder)
    with pytest.raises(StorageUnavailable) as raised:
        await _put(storage, draft)
    assert str(folder) in str(raised.value)
    assert str(folder) not in str(raised.value.details)


async def test_a_file_of_another_process_that_vanishes_while_listed_is_left_out(
    folder: Path, storage: LocalStorage
) -> None:
    for number in range(1200):
        await storage.put(f"a/{number:04}", b"x", content_type=BINARY)
    seen: list[str] = []
    async for info in storage.list("a/"):
        if not seen:
            (folder / "a" / "1100").unlink()
        seen.append(info.key)
    assert len(seen) == 1199


async def test_a_put_leaves_nothing_in_the_spool(tmp_path: Path, storage: LocalStorage) -> None:
    await asyncio.gather(*(storage.put(f"a/{number}", b"x", content_type=BINARY) for number in range(20)))
    assert list((tmp_path / "spool").iterdir()) == []


def test_the_spool_removes_only_what_is_old(tmp_path: Path, spool: Spool) -> None:
    young, old = spool.new_path(), spool.new_path()
    for path in (young, old):
        path.write_bytes(b"x")
    long_ago = time.time() - STALE_AFTER_SECONDS - 5
    os.utime(old, (long_ago, long_ago))
    assert spool.remove_stale() == 1
    assert list((tmp_path / "spool").iterdir()) == [young]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a lighthouse at dusk", "a_lighthouse_at_dusk"),
        ("A Lighthouse", "A_Lighthouse"),
        ("  ..hello!! ", "hello"),
        ("可爱的猫", "image"),
        ("", "image"),
        ("猫 cat 猫", "cat"),
        ("x" * 50, "x" * 20),
        ("." * 30 + "late", "image"),
    ],
)
def test_a_slug_is_ascii_stripped_and_short(prompt: str, wanted: str) -> None:
    assert slug(prompt) == wanted


def test_a_stem_follows_from_the_image_and_its_time_alone() -> None:
    made_at = 1_795_342_272_123  # 2026-11-22T10:11:12.123Z
    stem = image_stem(folder_id="f0", mode="basic", prompt="a cat", image_id="img_1", made_at=made_at, listed=True)
    again = image_stem(folder_id="f0", mode="basic", prompt="a cat", image_id="img_1", made_at=made_at, listed=True)
    other = other_stem(stem, "img_1", 1)
    unlisted = image_stem(folder_id="f0", mode="basic", prompt="a", image_id="img_1", made_at=made_at, listed=False)
    assert stem == again
    assert stem != other == other_stem(again, "img_1", 1)
    assert other[:-6] == stem[:-6]
    assert other_stem(stem, "img_1", 0) == stem
    assert stem.startswith("users/f0/2026/11/22/basic_101112_a_cat_")
    assert unlisted.startswith("unlisted/2026-11-22/basic_101112_a_")
    assert stem_of(f"{stem}.png") == stem
    assert record_key(stem) == f"{stem}.json"
