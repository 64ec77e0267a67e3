"""A webhook as its receiver sees it, and what is written down of the try."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from core.clients.http import GuardedHttp
from core.clock import now_ms, utc
from services.webhooks.models import WebhookTarget
from services.webhooks.sender import WebhookSender
from tests.support.receiver import Answer, Names, Receiver, running_receiver
from tests.webhooks.receiving import PLAIN_SECRET, STANDARD_SECRET, checked, message, whole_result

FIELDS = {
    "job_id", "client_job_id", "status", "result", "error", "started_at", "completed_at", "execution_time_ms",
    "timestamp",
    "nonce",
}  # fmt: skip
STANDARD_HEADERS = {"webhook-id", "webhook-timestamp", "webhook-signature"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    http = GuardedHttp(["127.0.0.1"], resolver=Names(), total_seconds=0.5)
    yield WebhookSender(http)
    await http.close()


async def test_what_is_told(receiver: Receiver, sender: WebhookSender) -> None:
    told = message(whole_result(2, "湖边的灯塔"))
    before = now_ms()
    attempt = await sender.deliver(WebhookTarget(receiver.url, PLAIN_SECRET), told, 1)
    assert (attempt.number, attempt.status, attempt.error, attempt.answer) == (1, 200, None, "thanks")
    assert attempt.succeeded
    assert before <= attempt.at <= now_ms()
    assert 0 < attempt.seconds < 0.5
    (request,) = receiver.received
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["x-job-id"], request.headers["x-status"]) == ("task_01", "completed")
    body = checked(request, PLAIN_SECRET)
    assert body.keys() == FIELDS
    assert (body["job_id"], body["client_job_id"], body["status"]) == ("task_01", "mine-7", "completed")
    assert (body["result"], body["error"], body["execution_time_ms"]) == (whole_result(2, "湖边的灯塔"), None, 2000)
    times = [datetime.fromisoformat(body[name]) for name in ("started_at", "completed_at", "timestamp")]
    assert times[1] - times[0] == timedelta(seconds=2)
    assert times[2] == utc(attempt.at)
    assert all(body[name].endswith("Z") for name in ("started_at", "completed_at", "timestamp"))


async def test_both_signatures_are_of_the_bytes_that_were_sent(receiver: Receiver, sender: WebhookSender) -> None:
    await sender.deliver(WebhookTarget(receiver.url, STANDARD_SECRET), message(whole_result(2, "é")), 1)
    checked(receiver.received[0], STANDARD_SECRET)
    assert receiver.received[0].headers.keys() >= STANDARD_HEADERS


async def test_a_plain_secret_has_no_headers_of_standard_webhooks_and_none_has_no_signature(
    receiver: Receiver, sender: WebhookSender
) -> None:
    for secret, signed in ((PLAIN_SECRET, True), (None, False)):
        await sender.deliver(WebhookTarget(receiver.url, secret), message(), 1)
        headers = receiver.received[-1].headers
        assert ("x-webhook-signature" in headers) == signed
        assert not headers.keys() & STANDARD_HEADERS


async def test_the_secret_itself_is_never_sent(receiver: Receiver, sender: WebhookSender) -> None:
    for secret in (PLAIN_SECRET, STANDARD_SECRET):
        attempt = await sender.deliver(WebhookTarget(receiver.url, secret), message(whole_result(1)), 1)
        request, text = receiver.received[-1], secret.get_secret_value()
        assert text not in f"{request}{attempt}"
        assert text.removeprefix("whsec_").encode() not in request.body


async def test_each_try_has_a_time_and_a_nonce_of_its_own_under_one_id(receiver: Receiver) -> None:
    clock = iter((1_790_000_000_000, 1_790_000_005_000))
    http = GuardedHttp(["127.0.0.1"], resolver=Names())
    sender, told = WebhookSender(http, lambda: next(clock)), message()
    receiver.answers = [Answer(500), Answer(200)]
    attempts = [await sender.deliver(WebhookTarget(receiver.url, STANDARD_SECRET), told, number) for number in (1, 2)]
    await http.close()
    assert [attempt.status for attempt in attempts] == [500, 200]
    headers = [request.headers for request in receiver.received]
    assert [header["webhook-id"] for header in headers] == ["msg_01"] * 2
    assert [header["webhook-timestamp"] for header in headers] == ["1790000000", "1790000005"]
    assert headers[0]["webhook-signature"] != headers[1]["webhook-signature"]
    bodies = [json.loads(request.body) for request in receiver.received]
    assert [body["timestamp"] for body in bodies] == ["2026-09-21T14:13:20.000Z", "2026-09-21T14:13:25.000Z"]
    assert len({body["nonce"] for body in bodies}) == 2
    assert all(len(body["nonce"]) == 32 for body in bodies)
    of_the_try = {"timestamp": None, "nonce": None}
    assert bodies[0] | of_the_try == bodies[1] | of_the_try


@pytest.mark.parametrize(
    ("answer", "status", "ended"),
    [
        (Answer(204, b""), 204, True), (Answer(302, headers={"location": "/other"}), 302, False),
        (Answer(410), 410, True),
        (Answer(500), 500, False), (Answer(200, harm="endless_body"), 200, True),
        (Answer(200, b"half and half", harm="half_body"), 200, True),
    ],
)  # fmt: skip
async def test_what_a_receiver_answers(
    receiver: Receiver, sender: WebhookSender, answer: Answer, status: int, ended: bool
) -> None:
    receiver.answers = [answer]
    attempt = await sender.deliver(WebhookTarget(receiver.url), message(), 1)
    assert (attempt.status, attempt.error, attempt.ended) == (status, None, ended)
    assert len(attempt.answer) <= 2048
    assert receiver.connections == 1


@pytest.mark.parametrize(("harm", "error"), [("hang", "url_timeout"), ("hang_up", "url_answer")])
async def test_without_an_answer_the_reason_is_written_down(
    receiver: Receiver, sender: WebhookSender, harm: str, error: str
) -> None:
    receiver.answers = [Answer(harm=harm)]  # type: ignore[arg-type]
    attempt = await sender.deliver(WebhookTarget(receiver.url), message(), 3)
    assert (attempt.number, attempt.status, attempt.error, attempt.ended) == (3, None, error, False)


@pytest.mark.parametrize("secret", [None, SecretStr("of-the-tests")])
async def test_a_private_address_gets_nothing_and_is_not_shown(receiver: Receiver, secret: SecretStr | None) -> None:
    http = GuardedHttp([], resolver=Names(hooks_example=[["127.0.0.1"]]))
    for url in (receiver.url, f"http://hooks.example:{receiver.port}/"):
        attempt = await WebhookSender(http).deliver(WebhookTarget(url, secret), message(), 1)
        assert (attempt.error, attempt.answer) == ("url_not_public", "")
    await http.close()
    assert receiver.connections == 0
