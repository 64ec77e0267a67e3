"""docs/operations.md, "Everything embedded": its commands are run, the first while the service works."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.backups import commands_below, draw, follow, seen, signed_in
from tests.support.installation import Installation

SETTINGS = {"TRIAL_COOLDOWN_SECONDS": "0"}
PYTHON = str(Path(sys.executable).parent)  # has a `python3`


@pytest.fixture
def installations(tmp_path: Path) -> Iterator[list[Installation]]:
    """Two folders: where the service runs, and an empty one."""
    both = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        both.append(Installation(tmp_path / name))
    yield both
    for installation in both:
        installation.clean_up()


def test_a_backup_of_a_running_service_gives_the_same_history_and_points(
    installations: list[Installation], tmp_path: Path
) -> None:
    backing_up, restoring = commands_below("Everything embedded")
    backup = tmp_path / "backup"
    first, second = installations
    first.start(**SETTINGS)
    with signed_in(first, "register") as ada:
        draw(ada, "a lighthouse")
        gone = draw(ada, "what nobody wants")
        draw(ada, "a harbour")
        assert ada.delete(f"/api/history/{gone}", params={"final": "true"}).status_code == 200
        expected = seen(ada)
        follow(backing_up, PYTHON, DATA_DIR=str(first.data), BACKUP=str(backup))
        draw(ada, "after the backup")

    follow(restoring, PYTHON, DATA_DIR=str(second.data), BACKUP=str(backup))
    second.start(**SETTINGS)
    with signed_in(second, "login") as ada:
        found = seen(ada)
        assert found == expected
        assert [item["prompt"] for item in found["items"]] == ["a harbour", "a lighthouse"]
        assert found["quota"]["global"]["used"] == 3
        draw(ada, "life goes on")
    assert backup.stat().st_mode & 0o777 == 0o700
