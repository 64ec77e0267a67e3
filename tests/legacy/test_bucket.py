"""The bar: a bucket of the old app moves in whole, and its people find what they had."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from services.history.records import read_record
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
    newest,
    owners,
    put_in,
    without_owner,
)
from tests.legacy.old_app import OldLibrary, library, list_of, milliseconds, old_image
from tests.reindex.library import charged, reindex
from tests.support.buckets import BucketServer, bucket_settings
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.parts import open_parts
from tests.support.people import with_github
from tests.support.service import run_service

USERS, FEW_USERS, WHOLE, SHORT = 20, 6, (100, 90), (5, 4)  # images of each, and how many of them a list has


@pytest.fixture
def environment(redis_url: str, github: GitHubStandin, tmp_path: Path) -> dict[str, str]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return {
        "DATA_DIR": str(data_dir), "REDIS_URL": redis_url, "LOG_LEVEL": "WARNING",
        **github_settings(github), **databases.settings(data_dir),
    }  # fmt: skip


def filled(moto: BucketServer, old: OldLibrary) -> str:
    bucket = moto.new_bucket()
    with ThreadPoolExecutor(8) as threads:

        def put(key: str, data: bytes, metadata: Mapping[str, str]) -> None:
            threads.submit(moto.s3.put_object, Bucket=bucket, Key=key, Body=data, Metadata=dict(metadata))

        old.put(put)
    return bucket


async def test_a_bucket_of_the_old_app_moves_in_whole_and_once(
    environment: dict[str, str],
    moto: BucketServer,
    github: GitHubStandin,
    empty_database: Path,
    tmp_path: Path,
    soak: bool,
) -> None:
    each, listed = WHOLE if soak else SHORT
    old, data_dir = library(USERS, each, listed), Path(environment["DATA_DIR"])
    bucket = filled(moto, old)
    environment |= bucket_settings(moto.url, bucket)
    before = contents(moto, bucket)

    code, told, _ = await move_in(environment, f"s3://{bucket}", "--report", str(tmp_path / "report.json"))

    assert code == 0, told
    report = orjson.loads((tmp_path / "report.json").read_bytes())
    assert report["odd"] == old.odd
    assert len(report["oddities"]) == sum(old.odd.values()) == len([line for line in told if is_an_oddity(line)])
    assert (report["seen"], sum(report["moved"].values()), report["copied"]) == (
        len(old.images) + 2,
        len(old.images),
        0,
    )
    assert (report["shared_images"], report["shared_entries"]) == (5, 5)
    assert charged(data_dir) == set()
    everything_is_right(old, data_dir)
    after = contents(moto, bucket)
    assert {key: after[key] for key in before} == before, "nothing of the old app's was touched"
    rows = indexed(data_dir)
    for key in old.images:
        assert read_record(after[record_key(stem_of(key))]).image == without_owner(rows[key])

    code, told, _ = await move_in(environment, f"s3://{bucket}", "--resume", "--export-legacy", f"s3://{bucket}")
    assert (code, indexed(data_dir)) == (0, rows)
    again = contents(moto, bucket)
    lists = {f"users/{folder_of(1000 + user)}/history.json" for user in range(USERS)}
    assert {key for key in again if again[key] != after.get(key)} == lists
    assert {entry["key"] for key in lists for entry in orjson.loads(again[key])} == set(old.images)

    async with run_service(environment, empty_database) as service:
        person = await with_github(service, github, Person(1007, "grace"))
        page = await person.history(limit=100)
        mine = sorted(
            (image for image in rows.values() if image.folder_id == folder_of(1007)), key=newest, reverse=True
        )
        assert page["total"] == each
        assert [item["id"] for item in page["items"]] == [image.id for image in mine][:100]
        shown = await service.client.get(page["items"][3]["image_url"])
        assert digest(shown.content) == digest(old.images[mine[3].key].data)


async def test_what_moved_in_is_found_again_when_the_database_is_lost(
    environment: dict[str, str], moto: BucketServer
) -> None:
    """Prompts and texts that no object's metadata has, and the zone of times, are in the records by then."""
    old, data_dir = library(FEW_USERS, *SHORT), Path(environment["DATA_DIR"])
    bucket = filled(moto, old)
    environment |= bucket_settings(moto.url, bucket)
    assert (await move_in(environment, f"s3://{bucket}", "--shared-to", "1003"))[0] == 0
    rows = indexed(data_dir)
    assert len(rows) == len(old.images) + len(old.shared)
    databases.lose(data_dir)

    code, _ = await reindex(environment)

    assert code == 0
    again = indexed(data_dir)
    assert again.keys() == rows.keys()
    for key, image in rows.items():
        assert without_owner(again[key]) == without_owner(image)
    assert set(owners(data_dir).values()) >= {image.folder_id for image in rows.values()}


def everything_is_right(old: OldLibrary, data_dir: Path) -> None:
    rows, folders = indexed(data_dir), owners(data_dir)
    assert rows.keys() == old.images.keys()
    listed = {
        entry["key"]
        for key, data in old.lists.items()
        if not key.startswith(f"users/{folder_of(1000)}/")
        for entry in orjson.loads(data)
        if isinstance(entry, dict) and "key" in entry
    }
    listed -= {key for key in old.images if key.startswith(f"users/{folder_of(1000)}/")}
    for key, image in old.images.items():
        wanted = moves_as(image, listed=key in listed)
        assert fields_of(rows[key], wanted) == wanted, key
        assert folders[rows[key].user_id] == rows[key].folder_id == key.split("/")[1]
    sessions = {image.session_id for image in rows.values() if image.mode == "chat"}
    assert sessions == {image.session_id for image in old.images.values() if image.mode == "chat"}
    assert {milliseconds(image.made_at) for image in old.images.values()} == {row.created_at for row in rows.values()}


def contents(moto: BucketServer, bucket: str) -> dict[str, bytes]:
    found, where = dict[str, bytes](), {"Bucket": bucket}
    for page in moto.s3.get_paginator("list_objects_v2").paginate(**where):
        keys = [entry["Key"] for entry in page["Contents"]]
        with ThreadPoolExecutor(8) as threads:
            bodies = threads.map(lambda key: moto.s3.get_object(Key=key, **where)["Body"].read(), keys)
            found |= dict(zip(keys, bodies, strict=True))
    return found


async def test_from_a_folder_into_a_bucket_that_everybody_reads_images_alone_go_there(
    environment: dict[str, str], moto: BucketServer, empty_database: Path, old: Path
) -> None:
    """And what was deleted in the bucket, where the old app's list still tells of it, is no oddity."""
    images = [old_image(f"users/{folder_of(1000)}/", number) for number in range(5)]
    put_in(old, f"users/{folder_of(1000)}/history.json", list_of(images, 5))
    for image in images:
        put_in(old, image.key, image.data)
    public, private = moto.new_bucket(), moto.new_bucket()
    environment |= bucket_settings(moto.url, public, R2_PRIVATE_BUCKET_NAME=private)
    environment |= {"R2_PUBLIC_URL": "https://images.example.org"}
    async with open_parts(environment, empty_database) as parts:
        assert (await moved(parts, old))["copied"] == 5
        row, *_ = indexed(Path(environment["DATA_DIR"])).values()
        await parts.container.history.delete(row.user_id, row.id, final=True)
        (old / row.key).unlink()
        report = await moved(parts, old)

    assert (report["gone"], report["there"], report["odd"]) == (1, 4, {})
    left = [image for image in images if image.key != row.key]
    assert moto.keys(public) == sorted((image.key for image in left), key=str.encode)
    assert {record_key(stem_of(image.key)) for image in left} <= set(moto.keys(private))
    for image in left:
        stored = moto.s3.get_object(Bucket=public, Key=image.key)
        assert (digest(stored["Body"].read()), stored["ContentType"]) == (digest(image.data), "image/png")
        assert stored["Metadata"]["created-at"].endswith("Z")
