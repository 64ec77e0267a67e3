"""The backups of docs/operations.md: its own commands, and what has to be the same afterwards."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.installation import Installation

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ACCOUNT = {"email": "ada@example.org", "password": "a long and easy sentence"}


def commands_below(heading: str) -> tuple[str, str]:
    """The two examples of a section: how a backup is made, and how it comes back."""
    _, _, section = OPERATIONS.read_text(encoding="utf-8").partition(f"\n### {heading}\n")
    assert section, f"no such section: {heading}"
    backing_up, restoring = COMMANDS.findall(re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0])
    return backing_up, restoring


def follow(commands: str, path: str, **variables: str) -> None:
    """In a fresh shell with nothing but what the text asks for."""
    environment = {"PATH": f"{path}:/usr/bin:/bin", **variables}
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
