"""docs/operations.md, "Everything embedded": its commands are run, the first while the service works."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.installation import Installation

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ACCOUNT = {"email": "ada@example.org", "password": "a long and easy sentence"}
SETTINGS = {"TRIAL_COOLDOWN_SECONDS": "0"}


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


def follow(commands: str, data: Path, backup: Path) -> None:
    # A fresh shell with what the text asks for, and with `python3` being one that there is.
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "DATA_DIR": str(data), "BACKUP": str(backup)}
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands], env=environment, check=True, timeout=60)


@contextmanager
def signed_in(installation: Installation, route: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=installation.url, timeout=30) as client:
        response = client.post(f"/api/auth/{route}", json=ACCOUNT)
        assert response.is_success, response.text
        client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        yield client


def draw(client: httpx.Client, prompt: str) -> str:
    response = client.post("/api/generate/basic", json={"prompt": prompt})
    assert response.status_code == 200, response.text
    image_id: str = response.json()["data"]["history_id"]
    return image_id


def seen(client: httpx.Client) -> dict[str, Any]:
    """History, bytes and points, without what differs between two answers: signatures, host, and the cooldown."""
    items = client.get("/api/history").json()["items"]
    quota = client.get("/api/quota").json()
    return {
        "items": [{name: value for name, value in item.items() if not name.endswith("_url")} for item in items],
        "bytes": [client.get(f"/api/images/{item['id']}").content for item in items],
        "thumbnails": [client.get(f"/api/images/{item['id']}/thumbnail").status_code for item in items],
        "quota": {name: quota[name] for name in ("global", "modes")},
    }


def test_a_backup_of_a_running_service_gives_the_same_history_and_points(
    installations: list[Installation], tmp_path: Path
) -> None:
    backing_up, restoring = COMMANDS.findall(OPERATIONS.read_text(encoding="utf-8"))
    first, second = installations
    first.start(**SETTINGS)
    with signed_in(first, "register") as ada:
        draw(ada, "a lighthouse")
        gone = draw(ada, "what nobody wants")
        draw(ada, "a harbour")
        assert ada.delete(f"/api/history/{gone}", params={"final": "true"}).status_code == 200
        expected = seen(ada)
        follow(backing_up, first.data, tmp_path / "backup")
        draw(ada, "after the backup")

    follow(restoring, second.data, tmp_path / "backup")
    second.start(**SETTINGS)
    with signed_in(second, "login") as ada:
        found = seen(ada)
        assert found == expected
        assert [item["prompt"] for item in found["items"]] == ["a harbour", "a lighthouse"]
        assert found["quota"]["global"]["used"] == 3
        draw(ada, "life goes on")
    assert ((tmp_path / "backup").stat().st_mode & 0o777) == 0o700
