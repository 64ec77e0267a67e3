"""scripts/reindex as a process: killed, beside live traffic, over what is embedded, and when a part is away."""

import asyncio
from pathlib import Path

import httpx
import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.storage.names import record_key
from tests.conftest import OpenService
from tests.history.shelf import WIDE
from tests.reindex.library import charged, points_in_redis, reindex, seen
from tests.reindex.shelf import Told
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.installation import Installation
from tests.support.parts import open_parts
from tests.support.people import with_github
from tests.support.service import Guest
from tests.support.waiting import eventually

FEW = 8
FOLDER_OF_583231 = "6fac44aa6f9ae93e"


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    data_dir = tmp_path / "data"
    return {
        "DATA_DIR": str(data_dir), "REDIS_URL": redis_url, "TRIAL_COOLDOWN_SECONDS": "0",
        **databases.settings(data_dir),
    }  # fmt: skip


async def stored(environment: dict[str, str], empty_database: Path, count: int) -> list[str]:
    """So many images that nobody knows of: records without rows, and an empty Redis. Answers their ids."""
    async with open_parts(environment, empty_database) as parts:
        records = [await parts.store(await parts.reserve()) for _ in range(count)]
        await parts.redis.flushall()
    return [record.image.id for record in records]


async def test_one_that_is_killed_anywhere_is_finished_by_the_next(
    environment: dict[str, str], empty_database: Path
) -> None:
    data_dir, made = Path(environment["DATA_DIR"]), await stored(environment, empty_database, FEW)
    rows = []
    for point in ("owners_made", "entered:3"):
        assert await reindex({**environment, "FAIL_POINT": point}) == (-9, [])
        rows.append(len(charged(data_dir)))
    assert rows == [0, 3]

    code, lines = await reindex(environment)

    assert (code, lines[:4]) == (
        0,
        ["Done:", f"{FEW} images in storage", "  3 were in the index", "  5 indexed from their records"],
    )
    assert sorted(row[0] for row in charged(data_dir)) == sorted(made)
    assert databases.ask(data_dir, "SELECT id, role FROM users") == [("usr_a", "user")]
    assert points_in_redis(environment["REDIS_URL"]) == FEW


async def test_beside_live_traffic_every_image_is_there_once_and_charged_once_and_deleted_ones_stay_deleted(
    open_service: OpenService, gemini: GeminiStandin, empty_database: Path, redis_url: str, tmp_path: Path
) -> None:
    gemini.configure(pixels=(64, 48))
    settings = {"GOOGLE_GEMINI_BASE_URL": gemini.url, **WIDE}
    service = await open_service(**settings)
    guests = [await service.guest() for _ in range(4)]
    environment = {"DATA_DIR": str(service.data_dir), "REDIS_URL": redis_url, **settings}
    async with open_parts(environment, empty_database) as other:
        traffic = asyncio.gather(*(make_and_delete(guest) for guest in guests))
        runs = 0
        while not traffic.done():
            report = Told()
            await other.container.reindexer.run(report, dry_run=False)
            assert report.oddities.keys() <= {"deleted", "no_image"}, report.told
            runs += 1
    kept = [image_id for made in await traffic for image_id in made]
    assert runs > 3

    rows = databases.ask(service.data_dir, "SELECT id FROM images")
    assert sorted(image_id for (image_id,) in rows) == sorted(kept)
    assert len(service.stored("users/**/*")) == 2 * len(kept)
    assert len(charged(service.data_dir)) == 4 * 12
    assert await guests[0].used() == 4 * 12


async def make_and_delete(guest: Guest) -> list[str]:
    """A dozen images, of which two of three are deleted for good as soon as they are there; ids of the others."""
    kept = []
    for number in range(12):
        image_id = (await guest.image(f"picture {number}"))["history_id"]
        if number % 3:
            gone = await guest.client.delete(f"/api/history/{image_id}", params={"final": "true"})
            assert gone.status_code == 200
        else:
            kept.append(image_id)
    return kept


async def test_what_is_embedded_is_used_while_the_service_runs_and_started_when_it_does_not(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    environment = {"DATA_DIR": str(installation.data), **databases.settings(installation.data)}
    try:
        leader = installation.start(TRIAL_COOLDOWN_SECONDS="0")
        async with httpx.AsyncClient(base_url=installation.url, timeout=30) as client:
            token = (await client.post("/api/auth/guest", json={})).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            for prompt in ("a lighthouse", "a harbour"):
                assert (await client.post("/api/generate/basic", json={"prompt": prompt})).status_code == 200
            before = await seen(client)
            code, lines = await reindex(environment)
            assert (code, lines[2]) == (0, "  2 were in the index")
            leader.terminate()
            await asyncio.to_thread(leader.wait, 60)
            databases.lose(installation.data)

            code, lines = await reindex(environment)
            assert (code, lines[3], lines[7]) == (0, "  2 indexed from their records", "2 images charged with 2 points")
            installation.start(TRIAL_COOLDOWN_SECONDS="0")
            assert await seen(client) == before, "a guest is still signed in"
            assert (await client.get("/api/quota")).json()["global"]["used"] == 2
    finally:
        installation.clean_up()


async def test_images_of_the_old_app_are_there_for_whoever_signs_in_with_that_account(
    open_service: OpenService, github: GitHubStandin, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    lifetime = {"REQUEST_TIMEOUT_SECONDS": "0.5", "RESERVATION_GRACE_SECONDS": "0"}
    service = await open_service(**github_settings(github), **lifetime, **bucket_settings(moto.url, bucket))
    guest = await service.guest()
    ours = await guest.image("a lighthouse & 灯塔")
    image = await service.container.history.get(guest.id, ours["history_id"])
    data = moto.s3.get_object(Bucket=bucket, Key=image.key)
    picture = data["Body"].read()
    stem = f"users/{FOLDER_OF_583231}/2025/01/02"
    old = {
        "prompt": "a%20cat%20%E7%8C%AB", "mode": "chat", "duration": "7.5", "aspect_ratio": "4:3", "resolution": "2K",
        "created_at": "2025-01-02T10:11:12.5", "session_id": "ab12", "chat_index": "2",
    }  # fmt: skip
    hyphens = {name.replace("_", "-"): value for name, value in old.items()}
    with_ids = {**data["Metadata"], "image-id": "img_01jd0000000000000000000000"}
    for name, metadata in (("chat_101112_cat_a1b2c3", old), ("chat_111112_cat_a1b2c3", hyphens), ("mine", with_ids)):
        moto.s3.put_object(Bucket=bucket, Key=f"{stem}/{name}.png", Body=picture, Metadata=metadata)

    report = Told()

    async def all_are_old_enough() -> bool:
        await service.container.reindexer.run(report, dry_run=False)
        return report.indexed["metadata"] == 3

    assert await eventually(all_are_old_enough)
    assert (report.charged, report.accounts) == (0, {FOLDER_OF_583231})
    ada = await with_github(service, github, Person(583231, "ada"))
    mine, second, first = (await ada.history())["items"]
    for item in (first, second):
        assert (item["prompt"], item["mode"], item["duration"]) == ("a cat 猫", "chat", 7.5)
        assert item["settings"] == {"aspect_ratio": "4:3", "resolution": "2K"}
        assert (item["created_at"], item["session_id"], item["chat_index"]) == ("2025-01-02T10:11:12.500Z", "ab12", 2)
        assert (item["width"], item["height"], item["size"]) == (image.width, image.height, len(picture))
    assert (mine["id"], mine["prompt"], mine["model"]) == (with_ids["image-id"], image.prompt, image.model)
    assert (await service.client.get(first["image_url"])).content == picture
    assert (
        await ada.client.post(f"/api/history/{first['id']}/favorite", json={"is_favorite": True})
    ).status_code == 200
    assert record_key(f"{stem}/chat_101112_cat_a1b2c3") in moto.keys(bucket)


async def test_a_part_that_is_away_or_anothers_is_named_and_nothing_is_done(
    environment: dict[str, str], empty_database: Path, moto: BucketServer
) -> None:
    bucket = moto.new_bucket()
    ours = {**environment, **bucket_settings(moto.url, bucket), "SECRET_KEY": "the secret key of the first one ...."}
    await stored(ours, empty_database, 1)
    foreign = await reindex({**ours, "SECRET_KEY": "the secret key of the second one ..."})
    no_redis = await reindex({**ours, "REDIS_URL": "redis://127.0.0.1:9"})
    bad = await reindex({**ours, "TRIAL_GLOBAL_QUOTA": "many"})
    away = await reindex({**ours, "R2_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert [code for code, _ in (foreign, no_redis, bad, away)] == [2, 1, 2, 1]
    assert any("belongs to another installation" in line for line in foreign[1])
    assert any(line.startswith("TRIAL_GLOBAL_QUOTA") for line in bad[1])
    for _, lines in (no_redis, away):
        assert any(line.startswith("not finished, run it again when the cause is gone: ") for line in lines), lines
    assert charged(Path(environment["DATA_DIR"])) == set()
