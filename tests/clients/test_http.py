"""The door to callers' URLs, against receivers that are slow, endless, broken or send us elsewhere."""

import asyncio
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clients.http import ANSWER_BYTES, Delivery, Fetched, GuardedHttp
from core.clients.url_guard import UrlFailed
from core.errors import ValidationFailed
from tests.support.buckets import certify
from tests.support.receiver import Answer, Names, Receiver, running_receiver

SECONDS = 0.5
MOST_MEMORY = 4 * 2**20
LIMIT = 100_000


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    http = GuardedHttp(["127.0.0.1"], resolver=Names(), total_seconds=SECONDS)
    yield http
    await http.close()


async def failure(http: GuardedHttp, url: str) -> str:
    with pytest.raises(UrlFailed) as caught:
        async with asyncio.timeout(SECONDS + 4):
            await http.post(url, b"{}", {})
    return caught.value.reason


class Fetching:
    """Fetches with a small limit, and keeps what came."""

    def __init__(self, http: GuardedHttp) -> None:
        self._http = http
        self.body = b""

    async def fetch(self, url: str) -> Fetched:
        return await self._http.fetch(url, self._take, field="image", max_bytes=LIMIT)

    async def refusal(self, url: str) -> str:
        with pytest.raises(ValidationFailed) as caught:
            await self.fetch(url)
        fields: Any = caught.value.details["fields"]
        assert [field["field"] for field in fields] == ["image"]
        return str(fields[0]["reason"])

    async def _take(self, piece: bytes) -> None:
        self.body += piece


@pytest.fixture
def fetching(http: GuardedHttp) -> Fetching:
    return Fetching(http)


async def test_the_bytes_and_headers_given_are_the_ones_sent(receiver: Receiver, http: GuardedHttp) -> None:
    body = '{"a": "å"}'.encode()
    delivery = await http.post(f"{receiver.url}/a%20b?c=%2F", body, {"content-type": "application/json", "x-own": "1"})
    assert (delivery.status, delivery.answer, delivery.retry_after) == (200, "thanks", None)
    assert 0 < delivery.seconds < SECONDS
    (request,) = receiver.received
    assert (request.method, request.path, request.body) == ("POST", "/hook/a%20b?c=%2F", body)
    assert request.headers == {
        "host": receiver.authority, "content-length": str(len(body)), "content-type": "application/json", "x-own": "1",
    }  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_a_post_is_an_answer_and_not_followed(
    receiver: Receiver, http: GuardedHttp, status: int
) -> None:
    receiver.answers = [Answer(status, headers={"location": receiver.url})]
    assert (await http.post(receiver.url, b"{}", {})).status == status
    assert receiver.connections == 1


@pytest.mark.parametrize("status", [204, 400, 410, 500, 503])
async def test_every_status_is_an_answer(receiver: Receiver, http: GuardedHttp, status: int) -> None:
    receiver.answers = [Answer(status, b"" if status == 204 else b"why")]
    assert (await http.post(receiver.url, b"{}", {})).status == status


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("hang", "url_timeout"), ("drip_head", "url_timeout"), ("hang_up", "url_answer"), ("no_http", "url_answer"),
        ("endless_head", "url_answer"),
    ],
)  # fmt: skip
async def test_a_receiver_without_an_answer_is_given_up_with_its_reason(
    receiver: Receiver, http: GuardedHttp, harm: str, reason: str
) -> None:
    receiver.answers = [Answer(harm=harm)]  # type: ignore[arg-type]
    assert await failure(http, receiver.url) == reason


async def test_nobody_there(http: GuardedHttp) -> None:
    async with running_receiver() as gone:
        url = gone.url
    assert await failure(http, url) == "url_connection"


@pytest.mark.parametrize("harm", ["half_body", "hang_in_body"])
async def test_the_status_counts_though_the_body_breaks_off(receiver: Receiver, http: GuardedHttp, harm: str) -> None:
    receiver.answers = [Answer(200, b"0123456789", harm=harm)]  # type: ignore[arg-type]
    delivery = await http.post(receiver.url, b"{}", {})
    assert (delivery.status, delivery.answer) == (200, "01234")


async def test_of_an_answer_the_first_2_kb_are_kept_as_text(receiver: Receiver, http: GuardedHttp) -> None:
    receiver.answers = [Answer(500, b"\xff\x00" + b"y" * 5000)]
    delivery = await http.post(receiver.url, b"{}", {})
    assert delivery.answer == "\ufffd\ufffd" + "y" * (ANSWER_BYTES - 2)


async def test_an_endless_answer_takes_neither_memory_nor_time(receiver: Receiver, http: GuardedHttp) -> None:
    receiver.answers = [Answer(200, harm="endless_body")]
    tracemalloc.start()
    deliveries: list[Delivery] = [await http.post(receiver.url, b"{}", {}) for _ in range(20)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(delivery.answer) for delivery in deliveries] == [ANSWER_BYTES] * 20
    assert peak < MOST_MEMORY, f"{peak / 2**20:.1f} MB"
    assert receiver.sent < 20 * 8 * 2**20, "the connection is closed, not read on"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("120", 120), ("0", 0), ("soon", None), ("-5", None), ("1.5", None), ("٣", None), ("9" * 400, 9999999999)],
)
async def test_retry_after_in_seconds(
    receiver: Receiver, http: GuardedHttp, value: str, expected: float | None
) -> None:
    receiver.answers = [Answer(503, headers={"retry-after": value})]
    assert (await http.post(receiver.url, b"{}", {})).retry_after == expected


async def test_retry_after_as_a_date(receiver: Receiver, http: GuardedHttp) -> None:
    for minutes, least, most in ((10, 590, 600), (-10, 0, 0)):
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        receiver.answers = [Answer(503, headers={"retry-after": moment.strftime("%a, %d %b %Y %H:%M:%S GMT")})]
        retry_after = (await http.post(receiver.url, b"{}", {})).retry_after
        assert retry_after is not None
        assert least <= retry_after <= most


async def test_nothing_of_one_call_travels_with_the_next(receiver: Receiver, http: GuardedHttp) -> None:
    receiver.answers = [Answer(headers={"set-cookie": "a=b; Path=/"})]
    for _ in range(2):
        await http.post(receiver.url, b"{}", {})
    assert receiver.connections == 2
    assert all("cookie" not in request.headers for request in receiver.received)


async def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        http = GuardedHttp(["127.0.0.1"])
        await http.post(receiver.url, b"{}", {})
        await http.close()
        assert (receiver.connections, proxy.connections) == (1, 0)


async def test_over_tls_the_certificate_must_be_of_the_host_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(tmp_path / "certificate.pem", tmp_path / "key.pem", "127.0.0.1", "hooks.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _connection, name, _context: asked.append(name)
    async with running_receiver(tls=context) as receiver:
        names = Names(hooks_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
        allowed = ["hooks.example", "other.example", "127.0.0.1"]
        http = GuardedHttp(allowed, resolver=names, total_seconds=SECONDS)
        assert await failure(http, f"https://hooks.example:{receiver.port}/") == "url_tls"
        await http.close()

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        http = GuardedHttp(allowed, resolver=names, total_seconds=SECONDS)
        assert (await http.post(f"https://hooks.example.:{receiver.port}/", b"{}", {})).status == 200
        assert (await http.post(f"https://127.0.0.1:{receiver.port}/", b"{}", {})).status == 200
        assert await failure(http, f"https://other.example:{receiver.port}/") == "url_tls"
        assert await failure(http, f"http://hooks.example:{receiver.port}/") == "url_answer"
        await http.close()
    assert asked == ["hooks.example", "hooks.example", None, "other.example"]
    assert len(receiver.received) == 2


async def test_a_fetch_hands_on_what_came(receiver: Receiver, fetching: Fetching) -> None:
    receiver.answers = [Answer(200, bytes(range(256)) * 300, {"content-type": "image/png"})]
    assert await fetching.fetch(receiver.url) == Fetched(receiver.url, "image/png", 76_800)
    assert fetching.body == bytes(range(256)) * 300
    assert receiver.received[0].headers["accept-encoding"] == "identity"


async def test_a_fetch_follows_three_redirects_and_no_fourth(receiver: Receiver, fetching: Fetching) -> None:
    hop = Answer(302, headers={"location": "/next"})
    receiver.answers = [hop, hop, hop, Answer(200, b"there")]
    fetched = await fetching.fetch(receiver.url)
    assert (fetched.url, fetching.body) == (f"http://{receiver.authority}/next", b"there")
    receiver.answers = [hop]
    assert await fetching.refusal(receiver.url) == "url_redirects"
    assert receiver.connections == 8


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.2:{port}/", "url_not_public"), ("http://[::1]:{port}/", "url_not_public"),
        ("//127.0.0.2:{port}/", "url_not_public"), ("http://localhost:{port}/", "url_not_public"),
        ("http://[::ffff:127.0.0.2]:{port}/", "url_not_public"), ("http://169.254.169.254/latest/", "url_not_public"),
        ("http://2130706434:{port}/", "url_host"), ("http://0x7f.2:{port}/", "url_host"),
        ("file:///etc/passwd", "url_scheme"),
        ("http://a:b@127.0.0.1:{port}/", "url_credentials"), ("http://[::1", "url_form"),
    ],
)  # fmt: skip
async def test_a_redirect_to_where_nobody_may_go_is_not_followed(
    receiver: Receiver, location: str, reason: str
) -> None:
    async with running_receiver("127.0.0.2", port=receiver.port) as inner:
        http = GuardedHttp(["127.0.0.1"], resolver=Names(localhost=[["127.0.0.2"]]), total_seconds=SECONDS)
        receiver.answers = [Answer(302, headers={"location": location.format(port=receiver.port)})]
        assert await Fetching(http).refusal(receiver.url) == reason
        await http.close()
        assert (receiver.connections, inner.connections) == (1, 0)


async def test_a_fetch_of_too_much_ends_at_its_limit(receiver: Receiver, fetching: Fetching) -> None:
    receiver.answers = [Answer(200, harm="endless_body")]
    assert await fetching.refusal(receiver.url) == "url_size"
    assert len(fetching.body) <= LIMIT
    assert receiver.sent < 8 * 2**20


async def test_the_body_of_a_redirect_is_not_read(receiver: Receiver, fetching: Fetching) -> None:
    receiver.answers = [Answer(302, headers={"location": "/next"}, harm="endless_body"), Answer(200, b"there")]
    assert (await fetching.fetch(receiver.url)).size == 5
    assert receiver.sent < 8 * 2**20


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(404), "url_status"), (Answer(206), "url_status"), (Answer(304), "url_status"),
        (Answer(302), "url_status"),
        (Answer(200, bytes(5000), harm="half_body"), "url_answer"),
        (Answer(200, bytes(5000), harm="hang_in_body"), "url_timeout"),
        (Answer(200, harm="hang"), "url_timeout"),
    ],
)  # fmt: skip
async def test_a_fetch_of_what_is_not_whole_fails(
    receiver: Receiver, fetching: Fetching, answer: Answer, reason: str
) -> None:
    receiver.answers = [answer]
    assert await fetching.refusal(receiver.url) == reason
