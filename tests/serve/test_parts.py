"""`--only api` and `--only worker`: some of the processes, on hosts that share their stores."""

import contextlib
from pathlib import Path

import pytest

from core.instance_lock import acquire_instance_lock
from core.settings import SettingsError, load_settings
from scripts.serve import Leader, check_parts_are_shared, listen, make_folders
from tests.support.installation import Installation, free_port

SHARED = {"REDIS_URL", "DATABASE_URL", "R2_ENABLED", "SECRET_KEY"}
SECRET_KEY = "0123456789abcdef0123456789ABCDEF"


@pytest.mark.parametrize("part", ["api", "worker"])
def test_parts_whose_stores_would_be_their_own_are_refused_by_name(installation: Installation, part: str) -> None:
    code, lines = installation.refused("--only", part)
    assert code == 2
    assert {line.partition(":")[0] for line in lines} == SHARED
    assert not installation.data.exists()


def test_what_is_shared_already_is_not_complained_of() -> None:
    with pytest.raises(SettingsError) as caught:
        check_parts_are_shared(load_settings({"REDIS_URL": "redis://redis", "SECRET_KEY": SECRET_KEY}))
    assert {problem.partition(":")[0] for problem in caught.value.problems} == SHARED - {"REDIS_URL", "SECRET_KEY"}


def test_a_part_that_there_is_not_is_refused(installation: Installation) -> None:
    code, lines = installation.refused("--only", "redis")
    assert code == 2
    assert "invalid choice: 'redis'" in lines[-1]


@pytest.mark.parametrize(
    ("with_api", "with_worker", "expected"),
    [
        (True, True, ["nbl-api", "nbl-api", "nbl-worker"]),
        (True, False, ["nbl-api", "nbl-api"]),
        (False, True, ["nbl-worker"]),
    ],
)
def test_a_leader_has_the_children_of_its_part(
    tmp_path: Path, with_api: bool, with_worker: bool, expected: list[str]
) -> None:
    settings = load_settings({"DATA_DIR": str(tmp_path / "data"), "REDIS_URL": "redis://redis", "WEB_CONCURRENCY": "2"})
    folders = make_folders(settings.storage.data_dir)
    lock = acquire_instance_lock(folders.run / "lock", folders.data)
    with contextlib.closing(listen("127.0.0.1", free_port())) as listener:
        leader = Leader(settings, folders, lock, listener if with_api else None, with_worker=with_worker)
        assert [child.name for child in leader.children()] == expected
    folders.metrics.rmdir()
    lock.release()
