"""What every storage must do. A test module inherits from StorageContract and gives it a `storage` fixture:

class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, ...) -> Storage: ...
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.clock import now_ms
from services.storage.base import ImageWithRecord, Storage
from services.storage.errors import ObjectExists, ObjectNotFound

KEY = "users/0123456789abcdef/2026/11/22/basic_101112_a_lighthouse_a1b2c3.png"
RECORD = "users/0123456789abcdef/2026/11/22/basic_101112_a_lighthouse_a1b2c3.json"
BINARY = "application/octet-stream"
ESCAPING = ["", ".", "..", "/", "/etc/passwd", "../secret", "users/../../secret", "users/..", "a\0b"]
UNTIDY = ["users//a", "./users/a", "users/./a", "users/a/"]


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def listed(storage: Storage, prefix: str) -> list[str]:
    return [info.key async for info in storage.list(prefix)]


def is_there(path: Path) -> bool:
    return path.exists()


def with_record(draft: Path) -> ImageWithRecord:
    return ImageWithRecord(KEY, draft, "image/png", {"mode": "basic"}, RECORD, b"{}")


class StorageContract:
    @pytest.fixture
    def draft(self, tmp_path: Path) -> Path:
        """A file to hand over."""
        return self.another_draft(tmp_path, b"the image")

    @staticmethod
    def another_draft(folder: Path, data: bytes) -> Path:
        path = folder / f"draft-{random.randbytes(8).hex()}"
        path.write_bytes(data)
        return path

    async def put(self, storage: Storage, key: str, data: bytes = b"x") -> None:
        await storage.put(key, data, content_type=BINARY)

    async def test_what_is_put_is_read_back(self, storage: Storage) -> None:
        data = bytes(range(256)) * 3
        before = now_ms()
        await self.put(storage, KEY, data)
        assert await storage.get(KEY) == data
        assert await joined(storage.stream(KEY)) == data
        info = await storage.stat(KEY)
        assert (info.key, info.size) == (KEY, len(data))
        assert before - 2000 <= info.modified_at <= now_ms() + 2000

    async def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        await self.put(storage, KEY, b"")
        assert await storage.get(KEY) == b""
        assert await joined(storage.stream(KEY)) == b""
        assert (await storage.stat(KEY)).size == 0

    async def test_put_takes_the_place_of_what_was_there(self, storage: Storage) -> None:
        await self.put(storage, KEY, b"a longer old one")
        await self.put(storage, KEY, b"new")
        assert await storage.get(KEY) == b"new"
        assert await listed(storage, "") == [KEY]

    @pytest.mark.parametrize("key", ["plain", "with space/and + & = %20?.png", "图/像.png", "a/.hidden", "a/b.c.d"])
    async def test_a_key_may_hold_any_character_of_a_name(self, storage: Storage, key: str) -> None:
        await self.put(storage, key, b"x")
        assert await storage.get(key) == b"x"
        assert await listed(storage, "") == [key]

    async def test_put_file_hands_the_file_over(self, storage: Storage, draft: Path) -> None:
        await storage.put_file(KEY, draft, content_type="image/png", metadata={"prompt": "%E5%9B%BE", "mode": "basic"})
        assert await storage.get(KEY) == b"the image"
        assert not is_there(draft)

    async def test_put_file_never_takes_the_place_of_another(
        self, storage: Storage, draft: Path, tmp_path: Path
    ) -> None:
        await storage.put_file(KEY, draft, content_type="image/png")
        second = self.another_draft(tmp_path, b"another image")
        with pytest.raises(ObjectExists):
            await storage.put_file(KEY, second, content_type="image/png")
        assert await storage.get(KEY) == b"the image"
        assert second.read_bytes() == b"another image"

    async def test_put_image_stores_the_file_and_then_its_record(self, storage: Storage, draft: Path) -> None:
        between: list[list[str]] = []
        await storage.put_image(with_record(draft), between=lambda: between.append([]))
        assert (await storage.get(KEY), await storage.get(RECORD)) == (b"the image", b"{}")
        assert len(between) == 1
        assert not is_there(draft)

    async def test_put_image_never_takes_the_place_of_another(self, storage: Storage, draft: Path) -> None:
        await self.put(storage, KEY, b"another image")
        with pytest.raises(ObjectExists):
            await storage.put_image(with_record(draft), between=lambda: None)
        assert await storage.get(KEY) == b"another image"
        assert await listed(storage, "") == [KEY]
        assert is_there(draft)

    async def test_of_many_files_for_one_key_one_is_taken(self, storage: Storage, tmp_path: Path) -> None:
        drafts = [self.another_draft(tmp_path, b"image %d" % number) for number in range(12)]
        results = await asyncio.gather(
            *(storage.put_file(KEY, draft, content_type="image/png") for draft in drafts), return_exceptions=True
        )
        taken = [number for number, result in enumerate(results) if result is None]
        assert len(taken) == 1
        assert {type(result) for result in results if result is not None} == {ObjectExists}
        assert await storage.get(KEY) == b"image %d" % taken[0]
        assert [draft.exists() for draft in drafts] == [number not in taken for number in range(12)]

    @pytest.mark.parametrize("key", [KEY, "users", "users/0123456789abcdef", f"{RECORD}/below"])
    async def test_what_is_not_there_is_not_found(self, storage: Storage, key: str) -> None:
        """Neither is what would be a folder on a disk, nor what would lie below another object."""
        await self.put(storage, RECORD, b"{}")
        with pytest.raises(ObjectNotFound):
            await storage.get(key)
        with pytest.raises(ObjectNotFound):
            await storage.stat(key)
        with pytest.raises(ObjectNotFound):
            await joined(storage.stream(key))

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, None), (0, 1), (0, 700_000), (1, 10), (262_143, 2), (262_144, 262_144), (699_999, 1), (699_999, None),
         (350_000, None), (350_000, 9_000_000), (0, 0), (700_000, None)],
    )  # fmt: skip
    async def test_a_stream_is_the_asked_part(self, storage: Storage, start: int, length: int | None) -> None:
        data = random.Random(4).randbytes(700_000)
        await self.put(storage, KEY, data)
        wanted = data[start:] if length is None else data[start : start + length]
        assert await joined(storage.stream(KEY, start, length)) == wanted

    async def test_a_stream_comes_in_pieces(self, storage: Storage) -> None:
        await self.put(storage, KEY, bytes(3_000_000))
        sizes = [len(piece) async for piece in storage.stream(KEY)]
        assert sum(sizes) == 3_000_000
        assert max(sizes) <= 1 << 20

    async def test_a_stream_may_be_left_early(self, storage: Storage) -> None:
        await self.put(storage, KEY, bytes(3_000_000))
        async for _ in storage.stream(KEY):
            break
        await storage.delete(KEY)
        await self.put(storage, KEY, b"new")
        assert await storage.get(KEY) == b"new"

    async def test_delete_removes_one_object_and_may_be_repeated(self, storage: Storage) -> None:
        await self.put(storage, KEY)
        await self.put(storage, RECORD)
        await storage.delete(KEY)
        await storage.delete(KEY)
        await storage.delete("never/was/there")
        await storage.delete("users")
        assert await listed(storage, "") == [RECORD]
        with pytest.raises(ObjectNotFound):
            await storage.get(KEY)

    async def test_a_deleted_key_can_be_used_again(self, storage: Storage, draft: Path) -> None:
        await self.put(storage, KEY, b"old")
        await storage.delete(KEY)
        await storage.put_file(KEY, draft, content_type="image/png")
        assert await storage.get(KEY) == b"the image"

    async def test_of_many_keys_each_is_removed_and_no_other(self, storage: Storage) -> None:
        there = [KEY, RECORD, "a/with space & <more>.png", "图/像.webp", "many/0500"]
        for key in [*there, "many/05001", "users/stays.png"]:
            await self.put(storage, key)
        keys = [*there, *(f"many/{number:04}" for number in range(1, 1100)), KEY]
        assert await storage.delete_many(keys) == {}
        assert await listed(storage, "") == ["many/05001", "users/stays.png"]
        assert await storage.delete_many(keys) == {}
        assert await storage.delete_many([]) == {}

    async def test_what_is_no_key_does_not_keep_the_others(self, storage: Storage) -> None:
        for key in (KEY, RECORD, "users/stays.png"):
            await self.put(storage, key)
        left = await storage.delete_many([KEY, *ESCAPING, *UNTIDY, RECORD])
        assert set(left) == {*ESCAPING, *UNTIDY}
        assert all("not a storage key" in reason for reason in left.values())
        assert await listed(storage, "") == ["users/stays.png"]

    async def test_a_list_is_in_the_order_of_whole_keys(self, storage: Storage) -> None:
        """Byte by byte, the slash included, as S3 sorts: `a.b`, `a/b`, `a0`."""
        keys = ["a.b", "a/b", "a/b.c/d", "a/b/c", "a/b0", "a0", "Z", "z/é", "z/图", "b", "a-b/c", "a/B"]
        for key in random.Random(5).sample([key for key in keys if key != "a/b"], len(keys) - 1):
            await self.put(storage, key)
        wanted = sorted((key for key in keys if key != "a/b"), key=str.encode)
        assert await listed(storage, "") == wanted

    @pytest.mark.parametrize(
        ("prefix", "wanted"),
        [
            ("users/a/", ["users/a/1.json", "users/a/1.png", "users/a/2/3.png"]),
            ("users/a", ["users/a/1.json", "users/a/1.png", "users/a/2/3.png", "users/ab/1.png"]),
            ("users/a/1", ["users/a/1.json", "users/a/1.png"]),
            ("users/a/1.png", ["users/a/1.png"]),
            ("users/a/2", ["users/a/2/3.png"]),
            ("us", ["users/a/1.json", "users/a/1.png", "users/a/2/3.png", "users/ab/1.png"]),
            ("users/c/", []),
            ("users/a/1.png/", []),
            ("nowhere/at/all/", []),
        ],
    )
    async def test_a_prefix_is_any_beginning_of_a_key(self, storage: Storage, prefix: str, wanted: list[str]) -> None:
        for key in ("users/a/1.png", "users/a/1.json", "users/a/2/3.png", "users/ab/1.png", "unlisted/1.png"):
            await self.put(storage, key)
        assert await listed(storage, prefix) == wanted

    async def test_a_list_tells_sizes_and_goes_on_past_a_page(self, storage: Storage) -> None:
        for start in range(0, 1100, 50):
            await asyncio.gather(
                *(self.put(storage, f"many/{n % 7}/{n:04}", b"x" * (n % 5)) for n in range(start, start + 50))
            )
        found = [info async for info in storage.list("many/")]
        assert [info.key for info in found] == sorted(f"many/{n % 7}/{n:04}" for n in range(1100))
        assert all(info.size == int(info.key[-4:]) % 5 for info in found)

    @pytest.mark.parametrize("key", ESCAPING + UNTIDY)
    async def test_a_key_that_escapes_or_has_two_spellings_is_refused(
        self, storage: Storage, draft: Path, key: str
    ) -> None:
        with pytest.raises(ValueError, match="not a storage key"):
            await self.put(storage, key)
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.put_file(key, draft, content_type="image/png")
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.get(key)
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.stat(key)
        with pytest.raises(ValueError, match="not a storage key"):
            await joined(storage.stream(key))
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.delete(key)
        assert is_there(draft)

    @pytest.mark.parametrize("prefix", ["../", "users/../../", "/", "/etc/", "a\0"])
    async def test_a_prefix_that_escapes_is_refused(self, storage: Storage, prefix: str) -> None:
        with pytest.raises(ValueError, match="not a storage key"):
            await listed(storage, prefix)

    async def test_of_concurrent_puts_of_one_key_one_is_left_whole(self, storage: Storage) -> None:
        contents = [bytes([number]) * 200_000 for number in range(20)]
        await asyncio.gather(*(self.put(storage, KEY, data) for data in contents))
        assert await storage.get(KEY) in contents
        assert await listed(storage, "") == [KEY]

    async def test_a_reader_sees_the_old_or_the_new_object_and_never_half_of_one(self, storage: Storage) -> None:
        await self.put(storage, KEY, bytes(300_000))

        seen = set[bytes]()

        async def write() -> None:
            number = 0
            while number < 40 or len(seen) < 3:
                number += 1
                await self.put(storage, KEY, bytes([number % 256]) * 300_000)

        async def read() -> None:
            while not writing.done():
                data = await storage.get(KEY)
                streamed = await joined(storage.stream(KEY))
                assert len(data) == len(streamed) == 300_000
                assert len(set(data)) == len(set(streamed)) == 1
                seen.add(data[:1])

        writing = asyncio.create_task(write())
        async with asyncio.timeout(60):
            await asyncio.gather(writing, read(), read(), read())

    async def test_a_working_storage_passes_its_check(self, storage: Storage) -> None:
        await storage.check()
        assert await listed(storage, "") == []
