"""URLs of callers: which are taken when they are named, and that a private address is never connected to later."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from core.clients.http import GuardedHttp
from core.clients.public_addresses import is_public
from core.clients.url_guard import UrlFailed
from core.errors import ValidationFailed
from core.settings import SettingsError, load_settings
from i18n.translate import LANGUAGES, Translations
from tests.support.receiver import Names, Receiver, running_receiver

PUBLIC = "93.184.216.34"

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:0", "::ffff:93.184.216.34", "64:ff9b::7f00:1",
    "64:ff9b::93.184.216.34", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "4000::1", "5f00::1",
    "fc00::1",
    "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
OPEN = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
    "169.253.255.255",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    PUBLIC, "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e", "2003::1",
]  # fmt: skip
# Everything that some program takes for 127.0.0.1, for 0.0.0.0, or for the metadata of a cloud.
SPELLINGS = [
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.0x1", "0177.0.0.1", "0177.1", "017700000001",
    "00000177.0.0.1", "127.0.0.01", "127.0.0.1.", "0", "0x0", "0x", "00", "0.0.0.0", "[::]", "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:FFFF:7F00:0001]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%lo]", "127.0.0.%31", "%31%32%37.0.0.1", "127。0。0。1",
    "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127.0.0.1%00.example.org", "169.254.169.254", "0xa9fea9fe", "2852039166",
    "0251.0376.0251.0376",
    "127.0.0.1:80", "[::1]:8080", "3232235777", "4294967296", "256.0.0.1", "1.2.3", "1.2.3.4.5", "example.0x7f",
    "08.8.8.8",
]  # fmt: skip


def guarded(*allowed: str, **answers: list[list[str] | OSError]) -> tuple[GuardedHttp, Names]:
    names = Names(**answers)
    return GuardedHttp(allowed, resolver=names, total_seconds=2), names


async def refusal(http: GuardedHttp, url: str) -> str:
    """The reason; the answer names the field and no address."""
    with pytest.raises(ValidationFailed) as caught:
        await http.check_url(url, "callback_url")
    await http.close()
    fields: Any = caught.value.details["fields"]
    assert [field.keys() for field in fields] == [{"field", "reason"}]
    assert fields[0]["field"] == "callback_url"
    return str(fields[0]["reason"])


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OPEN)
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_private_address_is_refused_in_every_spelling(scheme: str, host: str) -> None:
    http, names = guarded()
    assert await refusal(http, f"{scheme}://{host}/hook") in {"url_host", "url_not_public", "url_form"}
    assert names.asked == [], "what looks like a number is never looked up"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://hooks.example/", "url_scheme"), ("file:///etc/passwd", "url_scheme"),
        ("gopher://hooks.example", "url_scheme"),
        ("//hooks.example/", "url_scheme"), ("hooks.example/hook", "url_scheme"), ("", "url_scheme"),
        (" https://hooks.example/", "url_scheme"), ("javascript:alert(1)", "url_scheme"),
        ("https://", "url_host"), ("https:///hook", "url_host"), ("https://a b/", "url_host"),
        ("https://-..x/", "url_host"),
        ("https://hooks.example\\@127.0.0.1/", "url_credentials"),
        ("https://ada:secret@hooks.example/", "url_credentials"),
        ("https://hooks.example@127.0.0.1/", "url_credentials"), ("https://hooks.example:0/", "url_port"),
        ("https://hooks.example:65536/", "url_port"), ("https://hooks.example:-1/", "url_port"),
        ("https://hooks.example:22/", "url_port"), ("https://hooks.example:25/", "url_port"),
        ("https://hooks.example:x/", "url_form"), ("https://[::1/", "url_form"),
        ("https://hooks.example/\r\nx: y", "url_form"),
        ("https://hooks.example/\x00", "url_form"), ("https://hooks.example/" + "x" * 2048, "url_form"),
        ("https://" + "x" * 64 + ".example/", "url_host"), ("https://" + "x." * 200 + "example/", "url_host"),
    ],
)  # fmt: skip
async def test_what_is_no_address_for_a_webhook_is_refused_with_its_reason(url: str, reason: str) -> None:
    http, _ = guarded(hooks_example=[[PUBLIC]])
    assert await refusal(http, url) == reason


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example", "http://hooks.example/", "HTTPS://Hooks.Example/a?b=c#d",
        "https://hooks.example:8443/",
        "https://hooks.example:443/", "http://hooks.example:80/", f"http://{PUBLIC}/",
        "https://[2606:4700:4700::1111]/",
    ],
)  # fmt: skip
async def test_a_public_url_is_taken(url: str) -> None:
    http, _ = guarded(hooks_example=[[PUBLIC, "2606:4700:4700::1111"]])
    await http.check_url(url, "callback_url")
    await http.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fe80::1%eth0"]
)
async def test_a_name_is_refused_for_any_private_address_among_its_own(address: str) -> None:
    http, _ = guarded(hooks_example=[[PUBLIC, address]])
    assert await refusal(http, "https://hooks.example/") == "url_not_public"


async def test_a_name_of_the_system_is_looked_up_by_the_system() -> None:
    assert await refusal(GuardedHttp(()), "http://localhost:9000/") == "url_not_public"


async def test_a_name_that_does_not_exist_cannot_be_told_from_a_private_one() -> None:
    http, _ = guarded(hooks_example=[socket.gaierror(socket.EAI_NONAME, "no such name")])
    assert await refusal(http, "https://hooks.example/") == "url_not_public"


async def test_a_name_that_cannot_be_looked_up_just_now_is_taken_and_judged_when_it_is_connected_to() -> None:
    failing = socket.gaierror(socket.EAI_AGAIN, "try again")
    http, names = guarded(hooks_example=[failing, failing, ["10.0.0.1"]])
    await http.check_url("https://hooks.example/", "callback_url")
    for reason in ("url_connection", "url_not_public"):
        with pytest.raises(UrlFailed) as caught:
            await http.post("https://hooks.example/", b"{}", {})
        assert caught.value.reason == reason
    assert len(names.asked) == 3
    await http.close()


async def test_a_name_server_that_hangs_holds_nobody_up() -> None:
    class Hanging:
        async def __call__(self, host: str) -> Sequence[str]:
            await asyncio.sleep(600)
            return []

    http = GuardedHttp((), resolver=Hanging(), total_seconds=0.2)
    async with asyncio.timeout(5):
        await http.check_url("https://hooks.example/", "callback_url")
        with pytest.raises(UrlFailed) as caught:
            await http.post("https://hooks.example/", b"{}", {})
    assert caught.value.reason == "url_timeout"
    await http.close()


async def test_a_name_that_changes_its_answer_after_the_check_reaches_nothing(receiver: Receiver) -> None:
    http, names = guarded(rebound_example=[[PUBLIC], ["127.0.0.1"]])
    url = f"http://rebound.example:{receiver.port}/hook"
    await http.check_url(url, "callback_url")
    with pytest.raises(UrlFailed) as caught:
        await http.post(url, b"{}", {})
    assert caught.value.reason == "url_not_public"
    assert names.asked == ["rebound.example"] * 2
    await http.close()
    assert receiver.connections == 0


async def test_what_was_checked_is_what_is_connected_to() -> None:
    """The name is in no other resolver, and this one gives another address to whoever asks twice."""
    async with running_receiver("127.0.0.2") as checked, running_receiver("127.0.0.1", port=checked.port) as other:
        http, names = guarded("hooks.example", hooks_example=[["127.0.0.2"], ["127.0.0.1"]])
        delivery = await http.post(f"http://hooks.example:{checked.port}/hook", b"{}", {})
        await http.close()
        assert delivery.status == 200
        assert (checked.connections, other.connections) == (1, 0)
        assert names.asked == ["hooks.example"]
        assert checked.received[0].headers["host"] == f"hooks.example:{checked.port}"


async def test_an_address_that_refuses_gives_way_to_the_next() -> None:
    async with running_receiver("127.0.0.2") as receiver:
        http, _ = guarded("hooks.example", hooks_example=[["127.0.0.3", "127.0.0.2"]])
        assert (await http.post(f"http://hooks.example:{receiver.port}/", b"{}", {})).status == 200
        await http.close()


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/"), ("127.0.0.1:{}", "http://127.0.0.1:{}/"),
        ("hooks.example", "http://HOOKS.example.:{}/"),
        ("Hooks.Example:{}", "http://hooks.example:{}/"), ("localhost", "http://localhost:{}/"),
    ],
)  # fmt: skip
async def test_an_allowed_host_is_reached_by_the_spelling_that_was_allowed(
    receiver: Receiver, entry: str, url: str
) -> None:
    http, _ = guarded(entry.format(receiver.port), hooks_example=[["127.0.0.1"]], localhost=[["127.0.0.1"]])
    await http.check_url(url.format(receiver.port), "callback_url")
    assert (await http.post(url.format(receiver.port), b"{}", {})).status == 200
    await http.close()


@pytest.mark.parametrize("entry", ["127.0.0.1", "other.example", "hooks.example:1"])
async def test_an_allowed_host_opens_neither_other_names_nor_other_ports(receiver: Receiver, entry: str) -> None:
    http, _ = guarded(entry, hooks_example=[["127.0.0.1"]])
    assert await refusal(http, f"http://hooks.example:{receiver.port}/") == "url_not_public"


async def test_ipv6_is_reached_where_it_is_allowed_and_refused_elsewhere() -> None:
    async with running_receiver("::1") as receiver:
        for entry in ("::1", "[::1]", f"[::1]:{receiver.port}", "0:0:0:0:0:0:0:1"):
            http, _ = guarded(entry)
            assert (await http.post(receiver.url, b"{}", {})).status == 200
            await http.close()
        http, _ = guarded("127.0.0.1")
        assert await refusal(http, receiver.url) == "url_not_public"
        assert receiver.connections == 4
        assert receiver.received[0].headers["host"] == receiver.authority


@pytest.mark.parametrize(
    "entry", ["http://a", "10.0.0.0/8", "*", "*.example", "a:b", "a:0", "a:70000", "127.1", "[::1", "a b", ":80"]
)
def test_an_entry_that_names_no_host_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(SettingsError, match="ALLOWED_PRIVATE_HOSTS"):
        load_settings({"ALLOWED_PRIVATE_HOSTS": f"receiver.internal,{entry}"})


def test_hosts_of_the_setting_are_taken_as_documented() -> None:
    entries = "receiver.internal,10.0.0.5:9000,fd00::5,[fd00::5]:9000,host_name"
    assert load_settings({"ALLOWED_PRIVATE_HOSTS": entries}).tasks.allowed_private_hosts == tuple(entries.split(","))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_refusal_says_what_to_change_and_shows_no_address(language: str) -> None:
    text = Translations().text("en" if language == "en" else "zh", "errors.fields.url_not_public")
    assert "ALLOWED_PRIVATE_HOSTS" in text
