"""scripts/migrate_data.py as a process: killed and run again, from bucket to files, refused, and the way back."""

from pathlib import Path

import orjson
import pytest

from services.storage.names import record_key, stem_of
from tests.legacy.moving import (
    digest,
    fields_of,
    folder_of,
    indexed,
    is_an_oddity,
    move_in,
    moved,
    moves_as,
    put_in,
)
from tests.legacy.old_app import IN_LIST, list_of, old_image
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.parts import Parts
from tests.support.people import with_github
from tests.support.service import run_service

ADA = folder_of(583231)
MINE = f"users/{ADA}/"


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> dict[str, str]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return {
        "DATA_DIR": str(data_dir), "REDIS_URL": redis_url, "LOG_LEVEL": "WARNING", **databases.settings(data_dir),
    }  # fmt: skip


async def test_from_a_bucket_into_files_though_it_is_killed_on_the_way(
    environment: dict[str, str], moto: BucketServer
) -> None:
    """After the bytes of one, before its record; after some rows; then whole."""
    data_dir, images = Path(environment["DATA_DIR"]), [old_image(MINE, number) for number in range(8)]
    bucket, elsewhere = moto.new_bucket(), moto.new_bucket()
    for image in images:
        moto.s3.put_object(Bucket=bucket, Key=image.key, Body=image.data, Metadata=image.metadata())
    moto.s3.put_object(Bucket=bucket, Key=f"{MINE}history.json", Body=list_of(images, 6))
    before = moto.keys(bucket)
    environment |= bucket_settings(moto.url, elsewhere) | {"R2_ENABLED": "false"}
    for point in ("bytes_copied:5", "owners_made", "entered:3"):
        code, _, _ = await move_in({**environment, "FAIL_POINT": point}, f"s3://{bucket}")
        assert code == -9, point

    code, told, _ = await move_in(environment, f"s3://{bucket}", "--resume")

    assert code == 0
    assert told[:2] == ["Done:", "8 images in 1 histories"]
    assert [line for line in told if is_an_oddity(line)] == [
        f"object without an entry: {image.key}" for image in sorted(images[:2], key=lambda image: image.key)
    ]
    rows = indexed(data_dir)
    for number, image in enumerate(images):
        wanted = moves_as(image, listed=number >= 2)
        assert fields_of(rows[image.key], wanted) == wanted
        stored = data_dir / "storage" / image.key
        assert digest(stored.read_bytes()) == digest(image.data)
        assert (data_dir / "storage" / record_key(stem_of(image.key))).exists()
    assert moto.keys(bucket) == before, "nothing is written to where things come from"


async def test_what_cannot_be_is_refused_in_a_line_and_nothing_is_done(
    environment: dict[str, str], moto: BucketServer, old: Path
) -> None:
    bucket = bucket_settings(moto.url, moto.new_bucket()) | {"R2_ENABLED": "false"}
    refused = {
        "SOURCE": await move_in(environment, str(old / "nowhere")),
        "must be set to read s3://some-bucket": await move_in(environment, "s3://some-bucket"),
        "--shared-to: nobody": await move_in(environment, str(old), "--shared-to", "octocat"),
        "is not this service's bucket": await move_in(environment, "--export-legacy", "s3://some-bucket"),
        "no time zone": await move_in(environment, str(old), "--timezone", "Mars/Olympus"),
        "SOURCE, or --export-legacy": await move_in(environment),
    }
    for reason, (code, _, said) in refused.items():
        assert code == 2, reason
        assert any(reason in line for line in said), (reason, said)
    code, _, said = await move_in({**environment, **bucket}, "s3://there-is-none")
    assert code == 1
    assert any("NoSuchBucket" in line for line in said)
    assert indexed(Path(environment["DATA_DIR"])) == {}


async def test_the_way_back_is_a_list_as_the_old_app_wrote_it(parts: Parts, old: Path, tmp_path: Path) -> None:
    """What moves in and out is the same, and moves in again as the same."""
    images = [old_image(MINE, number) for number in range(12)]
    put_in(old, f"{MINE}history.json", list_of(images, 100))
    for image in images:
        put_in(old, image.key, image.data)
    await moved(parts, old)
    made = await parts.store(await parts.reserve("usr_b"))
    await parts.keeper.index(made)
    before = orjson.loads((old / MINE / "history.json").read_bytes())
    settings = parts.container.settings
    assert settings.redis.redis_url is not None
    data_dir = settings.storage.data_dir
    environment = {
        "DATA_DIR": str(data_dir), "REDIS_URL": settings.redis.redis_url.get_secret_value(),
        **databases.settings(data_dir),
    }  # fmt: skip

    code, told, said = await move_in(environment, "--export-legacy", str(tmp_path / "back"))

    assert (code, told) == (0, ["1 lists with 12 entries written for the old app"]), said
    written = orjson.loads((tmp_path / "back" / MINE / "history.json").read_bytes())
    for entry in before:
        entry["created_at"] = f"{entry['created_at'][:-3]}000"  # milliseconds are what is kept here
    assert written == before
    assert all(len(entry["prompt"]) <= IN_LIST for entry in written)


async def test_whoever_signs_in_is_named_by_login_for_what_was_nobodys(
    environment: dict[str, str], github: GitHubStandin, empty_database: Path, old: Path
) -> None:
    environment |= github_settings(github)
    shared = old_image("", 3)
    put_in(old, shared.key, shared.data)
    async with run_service(environment, empty_database) as service:
        ada = await with_github(service, github, Person(583231, "Ada"))

        code, _, said = await move_in(environment, str(old), "--shared-to", "ada")

        assert code == 0, said
        (item,) = (await ada.history())["items"]
        assert (await service.client.get(item["image_url"])).content == shared.data
        assert (await service.client.get(item["thumbnail_url"])).status_code == 200
        assert (await ada.client.delete(f"/api/history/{item['id']}", params={"final": "true"})).status_code == 200
        assert not service.stored("**/*.png")
