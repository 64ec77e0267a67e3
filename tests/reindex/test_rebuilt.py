"""The database is lost: index and ledger come back from storage alone, and people find what they had."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from benchmarks.gemini_standin import GeminiStandin
from services.history.records import Record, read_record, write_record
from services.history.store import images
from services.storage.names import record_key, stem_of
from tests.history.shelf import WIDE, id_of, make
from tests.references.asking import SEARCH, blend
from tests.references.asking import made as made_of
from tests.references.pictures import picture
from tests.reindex.library import charged, points_in_redis, reindex, seen
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.people import bearer, registered, signed_in, try_github, try_login, with_github
from tests.support.service import Guest, RunningService, run_service

ADA, BOB = Person(583231, "ada", "Ada"), Person(583232, "bob", "Bob")
OWN_KEY = {"X-API-Key": "AIzaKeyOfOneCallerAlone000000000000000000"}


@dataclass(frozen=True)
class Library:
    """What was made: people by name, what each of them saw, and what was deleted for good."""

    people: dict[str, Guest]
    seen: dict[str, list[dict[str, Any]]]
    deleted: set[str]


@pytest.fixture
def environment(redis_url: str, github: GitHubStandin, gemini: GeminiStandin, tmp_path: Path) -> dict[str, str]:
    gemini.configure(pixels=(64, 48), text="what it is")
    data_dir = tmp_path / "data"
    return {
        "DATA_DIR": str(data_dir), "REDIS_URL": redis_url, "GOOGLE_GEMINI_BASE_URL": gemini.url,
        "TRIAL_COOLDOWN_SECONDS": "0", **WIDE, **github_settings(github), **databases.settings(data_dir),
    }  # fmt: skip


async def test_history_and_points_are_the_same_over_local_files(
    environment: dict[str, str], github: GitHubStandin, empty_database: Path
) -> None:
    """Redis is kept, so whoever was signed in still is."""
    library, ledger = await lost(environment, github, empty_database)
    assert await reindex(environment, "--dry-run") == (0, said("What is missing:", indexed=9, accounts=4))
    assert await reindex(environment) == (0, said("Done:", indexed=9, accounts=4))

    async with run_service(environment, empty_database) as service:
        await people_see_the_same(service, github, library, ledger)
        for name, role in (("carl", "user"), ("dora", "guest")):
            before = library.people[name]
            client = service.with_headers(**bearer(before))
            assert await seen(client) == library.seen[name]
            found = await client.get("/api/history", params={"search": library.seen[name][0]["prompt"][1:].upper()})
            assert library.seen[name][0]["id"] in [item["id"] for item in found.json()["items"]]
            refreshed = await client.post("/api/auth/refresh", json={"refresh_token": before.tokens["refresh_token"]})
            assert (refreshed.status_code, refreshed.json()["user"]["role"]) == (200, role)
        assert (await try_login(service, "carl@example.org")).status_code == 401, "their password is lost"
    assert await reindex(environment) == (0, said("Done:", there=9))


async def test_history_and_points_are_the_same_over_a_bucket(
    environment: dict[str, str], github: GitHubStandin, empty_database: Path, moto: BucketServer
) -> None:
    """Redis is lost too."""
    environment |= bucket_settings(moto.url, moto.new_bucket())
    library, ledger = await lost(environment, github, empty_database)
    with Redis.from_url(environment["REDIS_URL"]) as redis:
        redis.flushall()

    assert await reindex(environment) == (0, said("Done:", indexed=9, accounts=4))

    assert points_in_redis(environment["REDIS_URL"]) == sum(row[5] for row in ledger)
    async with run_service(environment, empty_database) as service:
        await people_see_the_same(service, github, library, ledger)
        for name in ("carl", "dora"):
            mine = "SELECT count(*) FROM images JOIN users ON users.id = user_id WHERE users.id = :id"
            count = databases.ask(service.data_dir, mine, id=library.people[name].id)
            assert count == [(len(library.seen[name]) // 2,)]
        fresh = await with_github(service, github, ADA)
        (used,) = {(await fresh.client.get("/api/quota")).json()["modes"]["search"]["used"]}
        assert used == 1


async def lost(
    environment: dict[str, str], github: GitHubStandin, empty_database: Path
) -> tuple[Library, set[tuple[Any, ...]]]:
    """A day's work of several people, and the ledger of it; then the database goes."""
    async with run_service(environment, empty_database) as service:
        library = await worked(service, github)
        ledger = {row for row in charged(service.data_dir) if row[0] not in library.deleted}
        assert len(ledger) == len(charged(service.data_dir)) - len(library.deleted) == 8
    databases.lose(service.data_dir)
    return library, ledger


async def worked(service: RunningService, github: GitHubStandin) -> Library:
    ada = await with_github(service, github, ADA)
    (favorite, trashed, gone) = await make(ada, 3)
    await ada.client.post(f"/api/history/{favorite}/favorite", json={"is_favorite": True})
    made_of(await ada.client.post(SEARCH, json={"prompt": "天气 in Lisbon"}))
    made_of(await blend(ada, picture("PNG"), picture("JPEG"), mode="style"))
    own_key = await ada.client.post("/api/generate/basic", json={"prompt": "on my own key"}, headers=OWN_KEY)
    await of_a_chat(service, made_of(own_key)["history_id"])
    # Bob has made nothing but as a guest, in another folder than his own.
    guest = await service.guest()
    await make(guest, 1)
    assert id_of((await guest.image("unlisted", save_to_history=False))["image_url"])
    bob = signed_in(service, await try_github(service, github, BOB, bearer(guest)))
    await forgotten(service)
    carl, dora = await registered(service, "carl@example.org"), await service.guest()
    await make(carl, 1)
    await make(dora, 1)
    await ada.client.delete(f"/api/history/{gone}", params={"final": "true"})
    people = {"ada": ada, "bob": bob, "carl": carl, "dora": dora}
    library = Library(people, {name: await seen(person.client) for name, person in people.items()}, {gone})
    assert [len(entries) // 2 for entries in library.seen.values()] == [5, 1, 1, 1]
    await ada.client.delete(f"/api/history/{trashed}")
    return library


async def forgotten(service: RunningService) -> None:
    """What the worker does once no call of the guest can be under way any more."""
    left_long_ago = "UPDATE users SET left_at = left_at - 3600000 WHERE left_at IS NOT NULL"
    assert databases.change(service.data_dir, left_long_ago) == 1
    await service.container.departures.finish()
    assert await service.container.departures.finish() == 0


async def of_a_chat(service: RunningService, image_id: str) -> None:
    """As a chat will make one."""
    container = service.container
    image = await container.history.find_for_link(image_id)
    assert image is not None
    key, chat = record_key(stem_of(image.key)), {"session_id": "chat_a", "chat_index": 3, "task_id": "task_a"}
    record = read_record(await container.storage.get(key))
    changed = Record(type(image)(**vars(image) | chat), record.charge, record.owner)
    await container.storage.put(key, write_record(changed), content_type="application/json")
    setting = images.update().where(images.c.id == image_id).values(**chat)
    await container.database.write(lambda connection: connection.execute(setting))


async def people_see_the_same(
    service: RunningService, github: GitHubStandin, library: Library, ledger: set[tuple[Any, ...]]
) -> None:
    """Whoever signs in again: also what lay in the trash, which no record says."""
    for name, person in (("ada", ADA), ("bob", BOB)):
        again = await with_github(service, github, person)
        assert (again.id, await seen(again.client)) == (library.people[name].id, library.seen[name])
        item = (await again.history())["items"][0]
        shown = await service.client.get(item["image_url"])
        assert (shown.status_code, len(shown.content)) == (200, item["size"])
    assert charged(service.data_dir) == ledger


def said(head: str, *, indexed: int = 0, there: int = 0, accounts: int = 0) -> list[str]:
    charged, points = (8, 10) if indexed else (0, 0)
    return [
        head,
        "9 images in storage",
        f"  {there} were in the index",
        f"  {indexed} indexed from their records",
        "  0 indexed from the object's metadata, without a charge",
        "  0 indexed from the key alone, without a charge",
        "  0 under way, or just stored: left to their calls, their tasks and the sweep",
        f"{charged} images charged with {points} points",
        f"{accounts} accounts made for owners whom the database did not know",
        "0 × record that cannot be read",
        "0 × record without its image",
        "0 × image that was deleted for good before",
        "0 × image that a task has left which is over",
        "0 × image that the database refuses",
        "0 × image that has no record and lies in nobody's folder",
        "0 × image that has no record and is no picture that we keep",
        "0 × object that is neither",
        "0 images without a user and 0 lists of the old app: not read",
    ]
