"""POST /api/generate/search: the search is asked for upstream, and its sources are fit to be put into a page."""

import orjson
import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.history.records import read_record
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import image_calls
from tests.references.asking import SEARCH, made
from tests.support.answers import fields_of
from tests.support.service import RunningService

# As Google sends it: a style sheet, logos, chips; and what a page that it found might smuggle in.
GOOGLES = """
<style>.container { display: flex } .chip { color: red }</style>
<div class="container fixed inset-0" style="position:fixed" id="login"><div class="headline">
<svg viewBox="0 0 9 9"><script>alert(1)</script><path d="M0 0"/></svg></div>
<div class="carousel"><a class="chip" href="https://vertexaisearch.cloud.google.com/grounding-api-redirect/AbC?a=1&amp;b=2"
onclick="alert(2)" target="_self">weather in Lisbon</a>
<a href="javascript:alert(3)">evil</a><a href="data:text/html,x">data</a><img src=x onerror=alert(4)>
<form action="https://evil.example"><input name="password"></form><iframe src="https://evil.example"></iframe></div></div>
"""


async def test_the_search_is_asked_for_and_its_sources_come_back_clean(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64), search_html=GOOGLES)
    guest = await gemini_service.guest()
    response = await guest.client.post(SEARCH, json={"prompt": "today's weather in Lisbon", "aspect_ratio": "4:3"})
    data = made(response)

    (call,) = image_calls(gemini)
    assert call["body"]["tools"] == [{"google_search": {}}]
    assert call["body"]["generationConfig"]["imageConfig"] == {"aspectRatio": "4:3", "imageSize": "1K"}
    sources = data["search_sources"]
    assert "weather in Lisbon</a>" in sources
    assert 'href="https://vertexaisearch.cloud.google.com/grounding-api-redirect/AbC?a=1&amp;b=2"' in sources
    assert 'rel="noopener noreferrer nofollow"' in sources
    assert 'target="_blank"' in sources
    for trace in (
        "script",
        "alert",
        "onclick",
        "style",
        "class",
        "svg",
        "javascript:",
        "data:",
        "<img",
        "<form",
        "ifr",
    ):
        assert trace not in sources, trace

    (stored,) = gemini_service.stored("users/**/search_*.json")
    assert read_record(stored.read_bytes()).image.search_sources == sources
    one = (await guest.client.get(f"/api/history/{data['history_id']}")).json()
    assert (one["search_sources"], one["mode"], one["settings"]["resolution"]) == (sources, "search", "1K")
    quota = (await guest.client.get("/api/quota")).json()
    assert (quota["modes"]["search"]["used"], quota["global"]["used"]) == (1, 2)


async def test_basic_asks_for_no_search(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    data = await (await gemini_service.guest()).image()
    assert "tools" not in image_calls(gemini)[0]["body"]
    assert data["search_sources"] is None


@pytest.mark.parametrize("html", ["", "<style>a{}</style>", "<script>alert(1)</script>"])
async def test_sources_of_which_nothing_is_left_are_none(
    gemini_service: RunningService, gemini: GeminiStandin, html: str
) -> None:
    gemini.configure(pixels=(64, 64), search_html=html)
    response = await (await gemini_service.guest()).client.post(SEARCH, json={"prompt": "a"})
    assert made(response)["search_sources"] is None


async def test_a_flood_of_sources_is_cut(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64), search_html="<p>x</p>" * 100_000)
    response = await (await gemini_service.guest()).client.post(SEARCH, json={"prompt": "a"})
    assert 60_000 < len(made(response)["search_sources"]) < 70_000


async def test_a_replay_has_the_sources_too(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    guest = await gemini_service.guest()
    send = {"json": {"prompt": "a"}, "headers": {"Idempotency-Key": "k"}}
    first, second = [await guest.client.post(SEARCH, **send) for _ in range(2)]  # type: ignore[arg-type]
    assert made(first)["search_sources"] == made(second)["search_sources"] is not None
    assert "idempotency-replayed" in second.headers
    assert len(image_calls(gemini)) == 1


async def test_the_same_key_on_another_route_is_another_body(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64))
    guest, key = await gemini_service.guest(), {"Idempotency-Key": "k"}
    made(await guest.client.post(SEARCH, json={"prompt": "a"}, headers=key))
    assert (await guest.client.post("/api/generate/basic", json={"prompt": "a"}, headers=key)).status_code == 422


async def test_what_a_search_does_not_take_is_refused_by_name(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    for name, value in (("resolution", "2K"), ("seed", 1), ("enable_thinking", True), ("images", [])):
        response = await guest.client.post(SEARCH, json={"prompt": "a", name: value})
        assert fields_of(response)[name]["reason"] == "unknown_field"
    response = await guest.client.post(SEARCH, json={"prompt": "a", "model": "gemini-3.1-flash-lite-image"})
    field = fields_of(response)["model"]
    assert field["reason"] == "not_allowed"
    assert "gemini-3-pro-image" in field["allowed"]
    assert image_calls(gemini) == []


async def test_the_demo_names_sources_that_say_they_are_none(service: RunningService) -> None:
    guest = await service.guest()
    data = made(await guest.client.post(SEARCH, json={"prompt": "today's weather"}))
    assert data["provider"] == "demo"
    assert "DEMO" in data["search_sources"]
    assert 'href="https://example.com/"' in data["search_sources"]


async def test_an_own_key_pays_for_its_own_search(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url)
    guest = await service.guest()
    own = {"X-API-Key": "own-key.of_a-caller+0123456789"}
    made(await guest.client.post(SEARCH, json={"prompt": "a"}, headers=own))
    assert [call["headers"]["x-goog-api-key"] for call in image_calls(gemini)] == list(own.values())
    assert await guest.used() == 0
    (record,) = service.stored("users/**/search_*.json")
    assert orjson.loads(record.read_bytes())["charge"] is None
