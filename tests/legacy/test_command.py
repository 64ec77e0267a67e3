"""scripts/migrate_data.py as a process: killed and run again, from bucket to files, refused, and the way back."""

from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import orjson
import pytest

from core.settings import SettingsError
from services.legacy.assembly import open_export
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
from tests.legacy.old_app import IN_LIST, SHANGHAI, list_of, old_image
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.parts import Parts, open_parts
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


@pytest.mark.parametrize(
    ("source", "shared_to", "reason"),
    [("nowhere", None, "SOURCE: .*nowhere is no folder"), ("s3://some-bucket", None, "must be set to read s3://some-"),
     ("", "octocat", "--shared-to: nobody has signed in as octocat")],
)  # fmt: skip
async def test_a_source_that_cannot_be_is_refused(
    parts: Parts, old: Path, source: str, shared_to: str | None, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        await moved(parts, source if "//" in source else old / source, shared_to=shared_to)


async def test_a_login_that_two_have_signed_in_with_names_nobody(parts: Parts, old: Path) -> None:
    """The first has given it up, and the second has taken it."""
    for number in (1, 2):
        databases.change(
            parts.container.settings.storage.data_dir,
            "INSERT INTO users (id, role, folder_id, created_at, login, github_id, is_granted_admin)"
            " VALUES (:id, 'user', :folder_id, 1, 'Ada', :number, false)",
            id=f"usr_{number}", folder_id=folder_of(number), number=number,
        )  # fmt: skip
        if number == 1:
            assert (await moved(parts, old, shared_to="ada"))["odd"] == {}
    with pytest.raises(SettingsError, match="or two have"):
        await moved(parts, old, shared_to="ada")


@pytest.mark.parametrize("target", ["s3://some-bucket", "s3://everybodys"])
async def test_lists_are_written_into_no_bucket_but_our_own_and_not_where_everybody_reads_them(
    redis_url: str, empty_database: Path, tmp_path: Path, target: str
) -> None:
    environment = {"DATA_DIR": str(tmp_path / "new"), "REDIS_URL": redis_url}
    environment |= bucket_settings("http://127.0.0.1:9", "everybodys")
    environment |= {"R2_PUBLIC_URL": "https://images.example.org", "R2_PRIVATE_BUCKET_NAME": "ours-alone"}
    async with open_parts(environment, empty_database) as parts:
        with pytest.raises(SettingsError, match="--export-legacy: "):
            async with open_export(parts.container, target, ZoneInfo(SHANGHAI)):
                pass


async def test_what_goes_wrong_is_told_in_a_line_and_by_the_exit_code(
    environment: dict[str, str], moto: BucketServer, old: Path
) -> None:
    bucket = bucket_settings(moto.url, moto.new_bucket()) | {"R2_ENABLED": "false"}
    went_wrong = {
        (2, "--shared-to: nobody"): await move_in(environment, str(old), "--shared-to", "octocat"),
        (2, "no time zone: Mars/Olympus"): await move_in(environment, str(old), "--timezone", "Mars/Olympus"),
        (1, "NoSuchBucket"): await move_in(environment | bucket, "s3://there-is-none"),
    }
    for (wanted, reason), (code, _, said) in went_wrong.items():
        assert code == wanted, said
        assert any(reason in line for line in said), (reason, said)
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
    shared = old_image("", 1)
    put_in(old, shared.key, shared.data)
    async with run_service(environment, empty_database) as service:
        ada = await with_github(service, github, Person(583231, "Ada"))

        code, _, said = await move_in(environment, str(old), "--shared-to", "ada")

        assert code == 0, said
        (item,) = (await ada.history())["items"]
        shown = await service.client.get(f"{item['image_url']}&download=1")
        assert (shown.status_code, shown.content) == (200, shared.data)
        named = shown.headers["content-disposition"]
        assert named.endswith(f"; filename*=UTF-8''{quote(shared.key.rpartition('/')[2], safe='')}")
        assert named.startswith('attachment; filename="chat_213700__1_________')
        assert (await service.client.get(item["thumbnail_url"])).status_code == 200
        assert (await ada.client.delete(f"/api/history/{item['id']}", params={"final": "true"})).status_code == 200
        assert not service.stored("**/*.png")
