"""What a guest made goes on with the account they sign in to; what somebody who leaves made goes with them."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from core.errors import StorageUnavailable
from services.quota.models import FORGOTTEN_USER
from tests.history.shelf import id_of, image_files, listed, make, retained, rows
from tests.support.databases import databases
from tests.support.service import Guest, RunningService


def records(service: RunningService) -> dict[str, dict[str, Any]]:
    """The records in storage, by the id of their image."""
    found = [orjson.loads(path.read_bytes()) for path in service.stored("u*/**/*.json")]
    return {record["image"]["id"]: record for record in found}


def column(service: RunningService, name: str) -> dict[str, Any]:
    return {row[0]: row[1] for row in databases.ask(service.data_dir, f"SELECT id, {name} FROM images")}


async def mixed(guest: Guest) -> tuple[str, str, str]:
    """One listed image, one in the trash, one unlisted; all with a thumbnail."""
    shown, trashed = await make(guest, 2)
    unlisted = id_of((await guest.image(save_to_history=False))["image_url"])
    for image_id in (shown, trashed, unlisted):
        assert (await guest.client.get(f"/api/images/{image_id}/thumbnail")).status_code == 200
    await guest.client.delete(f"/api/history/{trashed}")
    return shown, trashed, unlisted


async def test_an_account_has_all_that_its_guest_made_and_nothing_ends_by_itself(shelf: RunningService) -> None:
    guest, account, other = await shelf.guest(), await shelf.guest(), await shelf.guest()
    shown, trashed, unlisted = await mixed(guest)
    (mine,), (foreign,) = await make(account, 1), await make(other, 1)
    files = image_files(shelf)
    ends = column(shelf, "expires_at")
    before = (await guest.history())["items"][0]
    charges = {image_id: record["charge"] for image_id, record in records(shelf).items()}

    await shelf.container.history.adopt(guest.id, account.id)

    assert image_files(shelf) == files, "the objects stay where they are"
    assert await listed(account) == [mine, shown]
    assert (await guest.history())["total"] == 0
    assert (await account.history())["items"][1] == before
    assert (await shelf.client.get(before["image_url"])).status_code == 200
    assert (await guest.client.get(f"/api/images/{unlisted}")).status_code == 404
    assert (await account.client.get(f"/api/images/{unlisted}")).status_code == 200
    assert (await account.client.post(f"/api/history/{trashed}/restore")).status_code == 200
    assert column(shelf, "expires_at") == {**ends, shown: None, trashed: None}
    assert ends[unlisted] is not None
    for image_id, record in records(shelf).items():
        assert record["image"]["user_id"] == (other.id if image_id == foreign else account.id)
        assert record["image"]["expires_at"] == column(shelf, "expires_at")[image_id]
        charge = charges[image_id]
        if image_id in {shown, trashed, unlisted}:
            charge = {**charge, "identity": {**charge["identity"], "user_id": FORGOTTEN_USER}}
        assert record["charge"] == charge, "what a guest was charged is not their heir's"
    await account.client.delete(f"/api/history/{shown}", params={"final": "true"})
    assert len(image_files(shelf)) == len(files) - 3
    assert await listed(other) == [foreign]


async def test_adopting_again_changes_nothing(shelf: RunningService) -> None:
    guest, account = await shelf.guest(), await shelf.guest()
    made = await make(guest, 3)
    for _ in range(2):
        await shelf.container.history.adopt(guest.id, account.id)
        assert await listed(account) == made[::-1]


async def test_whoever_leaves_leaves_nothing_and_takes_nothing_of_anothers(shelf: RunningService) -> None:
    guest, other = await shelf.guest(), await shelf.guest()
    kept = await mixed(other)
    files, others = image_files(shelf), rows(shelf)
    await mixed(guest)

    await shelf.container.history.purge_user(guest.id)

    assert image_files(shelf) == files
    assert rows(shelf) == others
    assert await listed(other) == [kept[0]]
    await shelf.container.history.purge_user(guest.id)
    assert image_files(shelf) == files


async def test_a_user_is_purged_by_the_worker_when_storage_fails_meanwhile(shelf: RunningService) -> None:
    guest = await shelf.guest()
    await mixed(guest)
    away = Path(f"{shelf.storage_dir}.away")
    shutil.move(shelf.storage_dir, away)
    with pytest.raises(StorageUnavailable):
        await shelf.container.history.purge_user(guest.id)
    assert (await guest.history())["total"] == 0
    shutil.move(away, shelf.storage_dir)
    await retained(shelf)
    assert (image_files(shelf), rows(shelf)) == ([], 0)


async def test_changes_at_the_same_time_end_with_record_and_row_alike(shelf: RunningService) -> None:
    guest, account = await shelf.guest(), await shelf.guest()
    made = await make(guest, 4)
    favorite = [
        guest.client.post(f"/api/history/{image_id}/favorite", json={"is_favorite": bool(turn % 2)})
        for image_id in made
        for turn in range(6)
    ]
    adopting = asyncio.create_task(shelf.container.history.adopt(guest.id, account.id))
    answers = await asyncio.gather(*favorite)
    await adopting
    assert {answer.status_code for answer in answers} <= {200, 404}
    owners, favorites = column(shelf, "user_id"), column(shelf, "is_favorite")
    for image_id, record in records(shelf).items():
        assert record["image"]["user_id"] == owners[image_id] == account.id
        assert record["image"]["is_favorite"] == bool(favorites[image_id])
