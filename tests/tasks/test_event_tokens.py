"""The token in the address, for a browser's EventSource: it reads one task's events, for a day, and is in no log."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from core.clock import now_ms
from core.security import KeyRing, LinkSigner
from services.tasks.event_tokens import EventTokens
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.event_source import all_of, watching
from tests.support.service import Guest, RunningService
from tests.tasks.watched import WatchedTasks

SECRET = "the secret of these tests, of 32 characters and more"
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Case:
    service: RunningService
    tasks: WatchedTasks
    guest: Guest
    task_id: str

    async def token(self, task_id: str | None = None) -> str:
        response = await self.guest.client.post(f"/api/v1/tasks/{task_id or self.task_id}/events-token")
        assert response.status_code == 200, response.text
        token: str = response.json()["token"]
        return token

    async def with_token(self, token: str, task_id: str | None = None) -> httpx.Response:
        return await self.service.client.get(f"/api/v1/tasks/{task_id or self.task_id}/events", params={"token": token})


@pytest.fixture
async def case(open_service: OpenService) -> Case:
    """A task that has ended, so that whoever may read its events has them at once."""
    service = await open_service(SECRET_KEY=SECRET, RATE_LIMIT_REQUESTS="1000")
    tasks, guest = WatchedTasks(service), await service.guest()
    task_id = tasks.add(guest.id)
    await tasks.start(task_id)
    await tasks.end(task_id)
    return Case(service, tasks, guest, task_id)


async def test_a_token_reads_the_events_of_its_task_for_a_day(case: Case) -> None:
    response = await case.guest.client.post(f"/api/v1/tasks/{case.task_id}/events-token")
    body = response.json()
    assert set(body) == {"token", "expires_at"}
    left = datetime.fromisoformat(body["expires_at"]).astimezone(UTC).timestamp() - time.time()
    assert DAY_SECONDS - 60 < left <= DAY_SECONDS
    sent = await all_of(case.service.client, case.task_id, token=body["token"])
    assert [event.type for event in sent] == ["started", "completed"]
    # Where both are there, the token counts: it is what the address was made for.
    async with watching(case.guest.client, case.task_id, token=body["token"]):
        pass


async def test_a_token_opens_nothing_else(case: Case) -> None:
    token = await case.token()
    other = case.tasks.add(case.guest.id)
    error_of(await case.with_token(token, other), 401, "UNAUTHORIZED")
    for path in (f"/api/v1/tasks/{case.task_id}/events-token", "/api/quota"):
        for headers in ({}, {"Authorization": f"Bearer {token}"}):
            method = "GET" if path == "/api/quota" else "POST"
            refused = await case.service.client.request(method, path, headers=headers, params={"token": token})
            assert refused.status_code in {401, 422}, path


async def test_a_token_that_is_changed_is_none(case: Case) -> None:
    token = await case.token()
    user_id, end, signature = token.split(".")
    stranger = await case.service.guest()
    changed = [
        "", ".", "..", "...", "nonsense", " ", "ü.ü.ü", "\0", user_id, f"{user_id}.{end}", f"{user_id}.{end}.",
        f"{user_id}.{end}.{'0' * 32}", f"{user_id}.{end}.{signature[:-1]}", f"{token}0", f" {token}",
        f"{user_id}.{int(end) + 1}.{signature}", f"{user_id}.-1.{signature}", f"{user_id}.{'9' * 500}.{signature}",
        f"{stranger.id}.{end}.{signature}",
    ]  # fmt: skip
    answers = [error_of(await case.with_token(attempt), 401, "UNAUTHORIZED") for attempt in changed]
    assert all(answer == answers[0] for answer in answers)
    # A good caller with a bad token in the address is not who the address was made for.
    mixed = await case.guest.client.get(f"/api/v1/tasks/{case.task_id}/events", params={"token": "nonsense"})
    error_of(mixed, 401, "UNAUTHORIZED")


async def test_a_token_ends(case: Case) -> None:
    tokens = EventTokens(LinkSigner(KeyRing(SecretStr(SECRET)), "event-token"), case.tasks)
    fresh, _ = await tokens.issue(case.guest.id, case.task_id, now_ms() - (DAY_SECONDS - 60) * 1000)
    assert (await case.with_token(fresh)).status_code == 200
    old, _ = await tokens.issue(case.guest.id, case.task_id, now_ms() - (DAY_SECONDS + 1) * 1000)
    error_of(await case.with_token(old), 401, "UNAUTHORIZED")


async def test_a_token_is_signed_for_this_purpose(case: Case) -> None:
    for_images = EventTokens(LinkSigner(KeyRing(SecretStr(SECRET)), "signed-link"), case.tasks)
    token, _ = await for_images.issue(case.guest.id, case.task_id, now_ms())
    error_of(await case.with_token(token), 401, "UNAUTHORIZED")


async def test_a_token_ends_with_its_task(case: Case) -> None:
    token = await case.token()
    case.tasks.forget(case.task_id)
    error_of(await case.with_token(token), 404, "NOT_FOUND")


async def test_who_reads_by_a_token_is_counted(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="1")
    tasks, guest = WatchedTasks(service), await service.guest()
    task_id = tasks.add(guest.id)
    await tasks.start(task_id)
    await tasks.end(task_id)
    token = (await guest.client.post(f"/api/v1/tasks/{task_id}/events-token")).json()["token"]
    path = f"/api/v1/tasks/{task_id}/events"
    answers = [await service.client.get(path, params={"token": token}) for _ in range(10)]
    assert answers[0].headers["ratelimit"].startswith('"read";r=')
    error_of(answers[-1], 429, "RATE_LIMITED")


async def test_a_token_is_in_no_log(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    token = await case.token()
    await all_of(case.service.client, case.task_id, token=token)
    await case.with_token(f"{token}0")
    await case.service.client.get(f"/api/v1/tasks/{case.task_id}/events", params={"token": token, "unknown": "1"})
    said = capfd.readouterr()
    assert f"/api/v1/tasks/{case.task_id}/events" in said.out + said.err, "the test looks at the wrong place"
    assert token.rpartition(".")[2] not in said.out + said.err
