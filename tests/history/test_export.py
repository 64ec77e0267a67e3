"""The history as a zip: what is in it, what is not, and what becomes of the stream when something goes."""

import asyncio
import io
import shutil
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil
import pytest

from services.history.export import FileNames
from tests.history.shelf import listed, make, multiply, set_columns
from tests.support.answers import error_of
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually

MISSING = "img_" + "0" * 26


async def export(guest: Guest, **body: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The metadata, and the content of each image by its name."""
    response = await guest.client.post("/api/history/export", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == len(names)
        content = {name: archive.read(name) for name in names}
    metadata = orjson.loads(content.pop("metadata.json"))
    assert all(name.startswith("images/") for name in content)
    return metadata, content


def exported(metadata: dict[str, Any]) -> list[str]:
    return [item["id"] for item in metadata["items"]]


async def test_each_image_is_there_with_its_bytes_and_its_whole_item(shelf: RunningService) -> None:
    guest = await shelf.guest()
    for prompt, fields in (("../../etc/passwd 夜", {}), ("A cat", {"aspect_ratio": "4:3"}), ("A cat", {})):
        await guest.image(prompt, **fields)
    await guest.client.post(f"/api/history/{(await listed(guest))[0]}/favorite", json={"is_favorite": True})
    response = await guest.client.post("/api/history/export", json={})
    assert response.headers["content-disposition"].startswith('attachment; filename="history-2')
    assert response.headers["cache-control"] == "no-store"

    metadata, content = await export(guest)
    assert {name: metadata[name] for name in ("total", "missing", "not_found")} == {
        "total": 3, "missing": 0, "not_found": [],
    }  # fmt: skip
    assert exported(metadata) == await listed(guest)
    for item in metadata["items"]:
        file = item.pop("file")
        whole = (await guest.client.get(f"/api/history/{item['id']}")).json()
        assert item == whole
        assert content.pop(file) == (await shelf.client.get(item["image_url"])).content
        assert file.startswith(f"images/{item['created_at'][:10]}_basic_")
    assert content == {}


async def test_a_filter_and_ids_choose(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    plain, chat, favorite, trashed = await make(guest, 4)
    (foreign,) = await make(other, 1)
    set_columns(shelf, chat, mode="chat", session_id="chat_1", created_at=1_772_500_000_000)
    set_columns(shelf, favorite, is_favorite=True)
    await guest.client.delete(f"/api/history/{trashed}")
    for body, wanted in (
        ({}, [favorite, plain, chat]),
        ({"mode": "chat"}, [chat]),
        ({"session_id": "chat_1", "mode": "basic"}, []),
        ({"favorites_only": True}, [favorite]),
        ({"date_to": "2026-03-31"}, [chat]),
        ({"date_from": "2026-04-01"}, [favorite, plain]),
    ):
        metadata, content = await export(guest, **body)
        assert exported(metadata) == wanted, body
        assert len(content) == len(wanted)
    metadata, content = await export(guest, ids=[plain, foreign, MISSING, favorite, plain, trashed])
    assert exported(metadata) == [plain, favorite]
    assert metadata["not_found"] == [foreign, MISSING, trashed]
    assert len(content) == 2


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"ids": ["img_1"], "mode": "basic"}, "ids", "exclusive"),
        ({"ids": ["img_1"], "favorites_only": True}, "ids", "exclusive"),
        ({"mode": "dance"}, "mode", "not_allowed"),
        ({"date_from": 20260101}, "date_from", "bad_format"),
        ({"date_from": "2026-03-11", "date_to": "2026-03-09"}, "body", "backwards"),
        ({"limit": 5}, "limit", "unknown_field"),
        ({"favorites_only": "yes"}, "favorites_only", "wrong_type"),
    ],
)
async def test_a_choice_that_is_none_is_refused_by_name(
    shelf: RunningService, body: dict[str, Any], field: str, reason: str
) -> None:
    response = await (await shelf.guest()).client.post("/api/history/export", json=body)
    (problem,) = error_of(response, 422, "VALIDATION_ERROR")["details"]["fields"]
    assert (problem["field"], problem["reason"]) == (field, reason)


async def test_an_image_whose_bytes_are_gone_is_told_of_and_the_rest_comes(shelf: RunningService) -> None:
    guest = await shelf.guest()
    first, gone, last = await make(guest, 3)
    path = shelf.storage_dir / (await shelf.container.history.get(guest.id, gone)).key
    path.unlink()
    metadata, content = await export(guest)
    assert [(item["id"], item["file"] is None) for item in metadata["items"]] == [
        (last, False), (gone, True), (first, False),
    ]  # fmt: skip
    assert (metadata["total"], metadata["missing"], len(content)) == (3, 1, 2)
    assert metadata["items"][1]["prompt"] == "picture 1"


async def test_nothing_to_export_is_a_zip_of_nothing(shelf: RunningService) -> None:
    metadata, content = await export(await shelf.guest())
    assert (metadata["items"], metadata["total"], content) == ([], 0, {})


async def test_more_than_one_batch_comes_whole_and_each_once(shelf: RunningService) -> None:
    """Many of one moment, which an order by time alone would lose or show twice between two batches."""
    guest = await shelf.guest()
    (model,) = await make(guest, 1)
    copies = await multiply(shelf, model, 250)
    metadata, content = await export(guest)
    assert sorted(exported(metadata)) == sorted([model, *copies])
    assert len(content) == 251


async def test_one_name_twice_becomes_two(shelf: RunningService) -> None:
    guest = await shelf.guest()
    (model,) = await make(guest, 1)
    image = await shelf.container.history.find_for_link(model)
    assert image is not None
    names = FileNames()
    given = [names.of(image) for _ in range(3)]
    assert given[1] == given[0].replace(".png", "_2.png")
    assert given[2] == given[0].replace(".png", "_3.png")
    odd = names.of(image.__class__(**{**vars(image), "key": "users/a/..\\con\n夜.p/../..ng"}))
    assert odd.isascii()
    assert not set(odd) & set('/\\:*?"<>|\n')


async def test_storage_that_is_away_at_the_start_is_an_error(shelf: RunningService) -> None:
    guest = await shelf.guest()
    await make(guest, 1)
    shutil.move(shelf.storage_dir, Path(f"{shelf.storage_dir}.away"))
    error_of(await guest.client.post("/api/history/export", json={}), 503, "STORAGE_UNAVAILABLE")


async def begun(service: RunningService, guest: Guest) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """An export under way, over an image that is larger than what the network holds; and the key of that image."""
    await make(guest, 2)
    image = await service.container.history.get(guest.id, (await listed(guest))[0])
    with (service.storage_dir / image.key).open("r+b") as file:
        file.truncate(200_000_000)
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /api/history/export HTTP/1.1\r\nHost: x\r\nAuthorization: {guest.client.headers['authorization']}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert b"200 OK" in await reader.readline()
    return reader, writer, image.key


async def test_whoever_hangs_up_stops_the_work(shelf: RunningService) -> None:
    _, writer, key = await begun(shelf, await shelf.guest())

    async def no_file_is_open() -> bool:
        names = [file.path for file in psutil.Process().open_files()]
        return not [name for name in names if name.endswith(key) or str(shelf.data_dir / "spool") in name]

    assert not await no_file_is_open(), "the test looks at the wrong thing"
    writer.close()
    assert await eventually(no_file_is_open)


async def test_what_fails_half_way_breaks_the_connection_off(shelf: RunningService) -> None:
    """Nobody may take a part for the whole."""
    reader, writer, _ = await begun(shelf, await shelf.guest())
    shutil.move(shelf.storage_dir, Path(f"{shelf.storage_dir}.away"))
    length = 0
    while piece := await reader.read(1_000_000):
        length, last = length + len(piece), piece
    assert length > 200_000_000
    assert not last.endswith(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()
