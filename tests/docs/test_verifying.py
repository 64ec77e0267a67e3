"""The receivers' code in docs/API.md takes what we send and nothing else: run as it stands there."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import WebhookVerificationError

from core.clients.http import GuardedHttp
from core.clock import now_ms
from services.webhooks.models import WebhookTarget
from services.webhooks.sender import WebhookSender
from tests.support.receiver import Names, Received, running_receiver
from tests.typescript.toolchain import node
from tests.webhooks.receiving import STANDARD_SECRET, message, whole_result

GUIDE = Path(__file__).parents[2] / "docs/API.md"
SECRET = "schlüssel-of-the-tests"
SIX_MINUTES_MS = 360_000

# Prints what became of the delivery, of the same again, of a changed one, and of one that is six minutes old.
JUDGE = """
const fs = require("node:fs");
const seen = new Set();
for (const name of ["good", "good", "changed", "old"]) {
  try {
    const body = fs.readFileSync(name);
    console.log(verified(process.argv[2], body, fs.readFileSync(name + ".signature", "ascii"), seen).job_id);
  } catch (error) {
    console.log(error.message);
  }
}
"""
JUDGED = ["task_01", "sent before", "not signed with our secret", "too old"]


def snippet(language: str, function: str = "verified") -> str:
    """The one that verifies, by the function in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (verifying,) = [str(code) for code in found if f"{function}(" in code]
    return verifying


@pytest.fixture
async def deliveries() -> AsyncIterator[dict[str, Received]]:
    async with running_receiver() as receiver:
        http = GuardedHttp(["127.0.0.1"], resolver=Names())
        for now in (now_ms(), now_ms() - SIX_MINUTES_MS):
            sender = WebhookSender(http, lambda now=now: now)  # type: ignore[misc]
            await sender.deliver(WebhookTarget(receiver.url, SecretStr(SECRET)), message(whole_result(1, "湖")), 1)
        await http.close()
        good, old = receiver.received
        yield {
            "good": good,
            "changed": replace(good, body=good.body.replace(b"completed", b"cancelled", 1)),
            "old": old,
        }


def test_the_python_code_of_the_guide(deliveries: dict[str, Received]) -> None:
    scope: dict[str, Any] = {}
    exec(snippet("python"), scope)
    seen: set[str] = set()
    judged = []
    for name in ("good", "good", "changed", "old"):
        request = deliveries[name]
        try:
            judged.append(
                scope["verified"](SECRET, request.body, request.headers["x-webhook-signature"], seen)["job_id"]
            )
        except ValueError as error:
            judged.append(str(error))
    assert judged == JUDGED


async def test_the_code_with_the_library_of_the_guide() -> None:
    http = GuardedHttp(["127.0.0.1"], resolver=Names())
    async with running_receiver() as receiver:
        await WebhookSender(http).deliver(WebhookTarget(receiver.url, STANDARD_SECRET), message(), 1)
    await http.close()
    (request,) = receiver.received
    scope: dict[str, Any] = {}
    exec(snippet("python", "told"), scope)
    assert scope["told"](STANDARD_SECRET.get_secret_value(), request.body, request.headers)["job_id"] == "task_01"
    with pytest.raises(WebhookVerificationError):
        scope["told"](STANDARD_SECRET.get_secret_value(), request.body + b" ", request.headers)


async def test_the_code_for_node_of_the_guide(deliveries: dict[str, Received], tmp_path: Path) -> None:
    for name, request in deliveries.items():
        (tmp_path / name).write_bytes(request.body)
        (tmp_path / f"{name}.signature").write_text(request.headers["x-webhook-signature"], encoding="ascii")
    (tmp_path / "judge.cjs").write_text(snippet("js") + JUDGE, encoding="utf-8")
    done = await node(["judge.cjs", SECRET], tmp_path)
    assert done.stdout.splitlines() == JUDGED, done.stderr
