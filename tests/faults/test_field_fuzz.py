"""Nasty values in every field of every operation, one at a time, by the OpenAPI document."""

import json
import random
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Connection, func, select

from benchmarks.gemini_standin import GeminiStandin
from services.history.records import read_record
from services.history.store import images
from services.quota.holds import holds
from services.quota.ledger import charges
from tests.chat.talking import begin
from tests.conftest import OPERATOR_KEY, OpenService
from tests.prompts.asking import kept
from tests.support.answers import error_of
from tests.support.people import set_up_admin
from tests.support.service import Guest, RunningService
from tests.tasks.workers import cancel, submit, working

SEED = 20260131
LONGEST_IN_ADDRESS = 30_000  # uvicorn itself refuses, as no HTTP, an address over 64 KiB
# The short form's share of the requests of an operation: the many headers matter little to most of them.
HEADER_SHARE, SHARE = 0.006, 0.03
SIGNING_OUT = {
    "logout", "end_session", "refresh_tokens", "delete_me", "register", "login", "finish_github_login",
}  # fmt: skip
ADMINS = {"list_users", "change_user", "list_all_tasks", "list_moderation"}
WORKED_ON = {"execute_generation"}  # it answers when a worker has done the work
NO_LIMITS = {
    "RATE_LIMIT_REQUESTS": "10000000", "GUEST_RATE_PER_HOUR": "10000000", "TRIAL_GLOBAL_QUOTA": "10000000",
    "TRIAL_COOLDOWN_SECONDS": "0", "TRIAL_GUEST_SHARE": "1", "TRIAL_BASIC_1K_LIMIT": "10000000",
    "TRIAL_BASIC_4K_LIMIT": "10000000", "TRIAL_SEARCH_LIMIT": "10000000", "TRIAL_BLEND_LIMIT": "10000000",
    "TRIAL_CHAT_LIMIT": "10000000", "TRIAL_TEXT_LIMIT": "10000000",
    "TRIAL_BATCH_1K_LIMIT": "10000000", "TRIAL_BATCH_4K_LIMIT": "10000000",
    "LOGIN_RATE_PER_MINUTE": "10000000",
}  # fmt: skip

NASTY_TEXTS = (
    "", " ", "\t\n\r", "\0", "a\0b", "%", "%00", "%25", "_", "'", '"', "' OR 1=1 --",
    '"; DROP TABLE images; --', "\\",
    "../", "../../etc/passwd", "..%2f..%2f", "/", "//", ".", "..", "a/b", "\u202e", "\u200b",
    "\ufeff", "\ufffd", "\uffff",
    "é", "e\u0301", "ﷺ", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0010ffff", "漢字", "ｎｓｆｗ", "İ", "ß",
    "null", "true", "NaN", "Infinity", "-0", "0", "1", "-1", "1e400", "9" * 400, "0x10", "1_000", "1.5", "٣", "²",
    "9999-99-99", "0000-00-00", "9999-12-31", "0001-01-01", "2026-02-30", "2026-01-31T25:00:00Z", "10000-01-01",
    "2026-01-31T12:00:00+99:99", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-W05-6",
    "{}", "[]", "{{7*7}}", "${jndi:ldap://x}", "<script>alert(1)</script>", "{0}", "{limit}", "%s%n", "$(id)", "`id`",
    "x" * 256, "x" * 4000, "x" * 70_000, "img_" + "0" * 26, "img_" + "z" * 26, "ses_" + "0" * 26,
    "*", "?", "#", "&", "=", ";",
)  # fmt: skip
# As they stand in a body; JSON's grammar does not know all of them.
NASTY_JSON = (
    "null", "true", "false", "0", "-0", "-0.0", "1", "-1", "1.0", "1.5", "1e400", "-1e400",
    "1e-400", "NaN", "Infinity",
    "-Infinity", "9" * 400, "1" + "0" * 400 + ".0", "2147483648", "9223372036854775808", "[]",
    "{}", "[[]]", "[null]", '[""]',
    "{\"a\": 1}", "{\"\": null}", "[" * 500 + "]" * 500, "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '"\\ud800"',
    '"\\udfff\\ud800"', '"a\\u0000b"', '"\\x"', "'a'", "undefined", "0123", "01", "+1", ".5", "1.", "\"\t\"", "",
    *(json.dumps(text) for text in NASTY_TEXTS),
)  # fmt: skip
NASTY_HEADERS = (
    b"", b"\xff\xfe", "é漢".encode(), b"x" * 60_000, b"null", b"../..", b"%00", b"'", b'"', b'""', b'"\xe9"',
    b"bytes=0-0", b"bytes=-1", b"bytes=9-1", b"bytes=" + b"9" * 18 + b"-", b"bytes=0-0,2-3",
    b"bytes=a-b", b"*", b"W/*",
    b",,,",    b"application/json", b"text/plain; charset=utf-16", b"multipart/form-data", b"a;b=c;;q=1", b"en;q=nan",
    b"zh;q=1e400",    b"Bearer", b"Bearer " + b"x" * 9000, b"Bearer a.b.c", b"Bearer \xff", b"Basic Og==",
    b"Bearer eyJhbGciOiJub25lIn0.e30.", b"-1", b"9" * 400, b"chunky", b"gzip", b"Thu, 99 Xxx 9999 99:99:99 GMT",
)  # fmt: skip
# Besides those that the document names: what the middleware, the framework and the handlers look at.
HEADERS = (
    "Authorization", "X-API-Key", "X-Request-ID", "Accept-Language", "Accept", "Content-Type", "User-Agent", "Range",
    "If-None-Match", "If-Range", "Idempotency-Key", "Origin", "X-Forwarded-For", "X-Forwarded-Proto", "Cookie",
    "Prefer", "Content-Encoding", "Expect", "Forwarded", "X-HTTP-Method-Override",
)  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """One request with one thing in it that is odd."""

    operation: str
    method: str
    path: str
    where: str
    value: str
    query: str = ""
    content: bytes = b""
    header: tuple[bytes, bytes] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.where} = {self.value[:80]!r}"


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    parameters: list[dict[str, Any]]
    body: dict[str, Any] | None
    fields: list[str]
    responses: dict[str, Any]


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method, found in item.items():
            schema = found.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            model = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
            yield Operation(
                found["operationId"], method.upper(), path, found.get("parameters", []), model.get("example"),
                [*model.get("properties", ()), "no_such_field"], found["responses"],
            )  # fmt: skip


def probes(operation: Operation, ids: dict[str, str]) -> Iterator[Probe]:
    """All of them. What is not the odd thing is as it should be."""
    name, method = operation.name, operation.method
    path = operation.path.format_map(ids)
    body = b"" if operation.body is None else json.dumps(operation.body).encode()
    for parameter in operation.parameters:
        where = f"{parameter['in']} {parameter['name']}"
        for text in NASTY_TEXTS:
            quoted = urllib.parse.quote(text, safe="")
            if len(quoted) > LONGEST_IN_ADDRESS:
                continue
            if parameter["in"] == "query":
                yield Probe(name, method, path, where, text, f"{parameter['name']}={quoted}", body)
                yield Probe(
                    name, method, path, where, f"{text} twice", "&".join([f"{parameter['name']}={quoted}"] * 2), body
                )
            elif parameter["in"] == "path":
                odd = operation.path.format_map({**ids, parameter["name"]: quoted})
                yield Probe(name, method, odd, where, text, content=body)
        if parameter["in"] == "query":
            for raw in ("%ff", "%c0%80", "%ed%a0%80", "%", "%zz", "a=b=c", "[]"):
                yield Probe(name, method, path, where, raw, f"{parameter['name']}={raw}", body)
    named = {parameter["name"] for parameter in operation.parameters if parameter["in"] == "header"}
    for header in (*HEADERS, *named - set(HEADERS)):
        for value in NASTY_HEADERS:
            odd_header = header.encode(), value
            yield Probe(name, method, path, f"header {header}", repr(value), content=body, header=odd_header)
    if operation.body is not None:
        for field in operation.fields:
            rest = ", ".join(
                f"{json.dumps(key)}: {json.dumps(value)}" for key, value in operation.body.items() if key != field
            )
            for text in NASTY_JSON:
                content = f"{{{rest}{', ' if rest else ''}{json.dumps(field)}: {text}}}".encode()
                yield Probe(name, method, path, f"body {field}", text, content=content)
        for text in NASTY_JSON:
            yield Probe(name, method, path, "body", text, content=text.encode())
        for odd_body in (
            b"\xff\xfe{}",
            b"\xef\xbb\xbf" + body,
            body.decode().encode("utf-16"),
            body + b"x",
            b'{"a":1,"a":2}',
        ):
            yield Probe(name, method, path, "body", repr(odd_body), content=odd_body)


async def ask(guest: Guest, probe: Probe) -> httpx.Response:
    headers: dict[bytes, bytes] = {b"Content-Type": b"application/json"} if probe.content else {}
    if probe.header is not None:
        headers = {name: value for name, value in headers.items() if name.lower() != probe.header[0].lower()}
        headers[probe.header[0]] = probe.header[1]
    # Not through httpx's own reading of addresses, which would tidy them up.
    target = probe.path.encode() + (b"?" + probe.query.encode() if probe.query else b"")
    request = guest.client.build_request(probe.method, "/", content=probe.content or None, headers=headers)
    request.extensions["target"] = target
    return await guest.client.send(request)


def check(operation: Operation, response: httpx.Response) -> None:
    """Never 5xx, never a status that is not documented, always the shape of errors."""
    assert response.status_code < 500, response.text
    if response.status_code in {404, 405, 307} and response.status_code not in map(int, operation.responses):
        # The odd thing led to another address.
        assert response.status_code != 307 or response.headers["location"]
    else:
        assert str(response.status_code) in operation.responses, response.text
    if response.status_code >= 400:
        error_of(response, response.status_code, response.json()["error"]["code"])
    elif response.headers.get("content-type") == "application/json":
        response.json()


async def known_guest(service: RunningService) -> tuple[Guest, dict[str, str]]:
    """A guest, and what of theirs can stand in a path."""
    guest = await service.guest()
    image = await guest.image()
    task_id = await submit(guest)
    await cancel(guest, task_id)
    (session,) = (await guest.client.get("/api/auth/sessions")).json()["sessions"]
    ids = {"image_id": image["history_id"], "session_id": session["id"], "user_id": guest.id, "lang": "en"}
    ids |= {"key_id": "key_01kga0000000abcdefghjkmnpq", "chat_id": await begin(guest)}
    return guest, ids | {"task_id": task_id, "prompt_id": (await kept(guest))["id"]}


def sample(found: list[Probe], chance: random.Random) -> list[Probe]:
    return [
        probe for probe in found if chance.random() < (HEADER_SHARE if probe.where.startswith("header") else SHARE)
    ]  # fmt: skip


async def test_nasty_values_in_every_field_are_answered_as_documented(
    open_service: OpenService, gemini: GeminiStandin, soak: bool
) -> None:
    gemini.configure(pixels=(8, 8))
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, **NO_LIMITS)
    document = (await service.client.get("/openapi.json")).json()
    chance = random.Random(SEED)
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    possible = 0
    admin = await set_up_admin(service)
    for operation in operations(document):
        guest, ids = await known_guest(service)
        guest = admin if operation.name in ADMINS else guest
        found = list(probes(operation, ids))
        possible += len(found)
        async with working(service) if operation.name in WORKED_ON else nullcontext():
            for probe in found if soak else sample(found, chance):
                try:
                    response = await ask(guest, probe)
                    statuses[response.status_code] += 1
                    check(operation, response)
                except (AssertionError, KeyError, ValueError, httpx.HTTPError) as error:
                    failures.append(f"{probe}: {type(error).__name__} {str(error)[:300]}")
                if operation.name in SIGNING_OUT and (await guest.client.get("/api/auth/me")).status_code == 401:
                    guest = await service.guest()

    assert failures == [], f"{len(failures)} of {sum(statuses.values())} of {possible}"
    assert possible > 20_000
    assert set(statuses) >= {200, 401, 404, 422}, statuses
    await everything_adds_up(service)


async def everything_adds_up(service: RunningService) -> None:
    """Each object has its record and its row, each row its object; what was charged is what counts as used.

    What was finally deleted was charged as well. What an odd `X-API-Key` paid for was not: many a text may be a key.
    Tasks that wait hold their points.
    """

    def rows(connection: Connection) -> tuple[set[str], set[str], int]:
        keys = connection.execute(select(images.c.key)).scalars()
        charged = connection.execute(select(charges.c.image_id)).scalars()
        sums = [connection.execute(select(func.sum(table.c.points))).scalar_one() for table in (charges, holds)]
        return set(keys), set(charged), sum(points or 0 for points in sums)

    keys, charged, points = await service.container.database.read(rows)
    paths = {path.relative_to(service.storage_dir).as_posix(): path for path in service.stored("u*/**/*")}
    records = {key: path for key, path in paths.items() if key.endswith(".json")}
    assert paths.keys() - records.keys() == keys
    assert {f"{key.rpartition('.')[0]}.json" for key in keys} == records.keys()
    metered = {
        record.image.id: record.charge is not None
        for record in (read_record(path.read_bytes()) for path in records.values())
    }
    assert metered.keys() & charged == {image_id for image_id, is_metered in metered.items() if is_metered}
    assert list((service.data_dir / "spool").iterdir()) == []
    guest = await service.guest()
    assert await guest.used() == points
