"""Headers of every answer: request id, rate limits, security, CORS, caching."""

import re

import pytest

from core.settings import SettingsError, load_settings
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.service import RunningService

PAGE = "https://page.example"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "the secret of these tests, of 32 characters and more",
    "GOOGLE_API_KEY": "AIzaOperatorKeyOfTheTests0000000000000000",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
}
STATE = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')


async def test_a_sane_request_id_is_echoed(service: RunningService) -> None:
    for request_id in ("abc-DEF_1.2", "a" * 128, "12345678", "5f0c1e1e-9d55-4f4e-8b44-0d9f6f5d9f11"):
        for path in ("/api/auth/config", "/nothing"):
            response = await service.client.get(path, headers={"X-Request-ID": request_id})
            assert response.headers.get_list("x-request-id") == [request_id]
    assert response.json()["request_id"] == request_id


async def test_an_insane_request_id_is_replaced(service: RunningService) -> None:
    for request_id in ("short", "a" * 129, "with space", "new<line>", "ünïcode-id", "", "a;b=c,d{e}"):
        response = await service.client.get("/nothing", headers={b"X-Request-ID": request_id.encode()})
        (found,) = response.headers.get_list("x-request-id")
        assert re.fullmatch(r"req_[0-9a-z]{26}", found)
        assert response.json()["request_id"] == found


async def test_every_request_has_an_id_of_its_own(service: RunningService) -> None:
    ids = [(await service.client.get("/api/health")).headers["x-request-id"] for _ in range(20)]
    assert len(set(ids)) == 20


async def test_what_is_left_of_a_limit_is_told(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="4")
    guest = await service.guest()
    left = []
    for _ in range(3):
        response = await guest.client.get("/api/auth/me")
        assert response.headers["ratelimit-policy"] == '"read";q=40;w=60'
        state = STATE.fullmatch(response.headers["ratelimit"])
        assert state is not None
        assert state[1] == "read"
        assert 0 < int(state[3]) <= 60
        left.append(int(state[2]))
    # A window that ends in between starts anew.
    assert left in ([39, 38, 37], [39, 38, 39], [39, 39, 38])


async def test_making_is_limited_to_a_tenth_of_reading(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="3")
    guest, other = await service.guest(), await service.guest()
    answers = [await guest.client.post("/api/generate/basic", json={}) for _ in range(7)]
    refused = [answer for answer in answers if answer.status_code == 429]
    # Seven calls may fall into two windows of three.
    assert refused
    details = error_of(refused[-1], 429, "RATE_LIMITED")["details"]
    assert (details["limit"], details["window_seconds"]) == (3, 60)
    assert 0 < details["retry_after"] <= 60
    assert refused[-1].headers["retry-after"] == str(details["retry_after"])
    assert refused[-1].headers["ratelimit-policy"] == '"default";q=3;w=60'
    state = STATE.fullmatch(refused[-1].headers["ratelimit"])
    assert state is not None
    assert state[2] == "0"
    # Reads have a limit of their own, and so has everybody else.
    assert (await guest.client.get("/api/quota")).status_code == 200
    assert (await other.client.post("/api/generate/basic", json={})).status_code == 422


async def test_reads_are_limited_in_the_end(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="1")
    guest = await service.guest()
    codes = [(await guest.client.get("/api/quota")).status_code for _ in range(21)]
    assert 10 <= codes.count(200) <= 20
    assert set(codes) == {200, 429}


async def test_images_health_and_words_are_not_counted(open_service: OpenService) -> None:
    service = await open_service(RATE_LIMIT_REQUESTS="1")
    guest = await service.guest()
    data = await guest.image()
    path = f"/api/images/{data['history_id']}"
    for address in (data["image_url"], data["thumbnail_url"], path, "/api/health", "/api/i18n/en", "/"):
        for _ in range(12):
            response = await guest.client.get(address)
            assert response.status_code == 200
            assert "ratelimit" not in response.headers


async def test_security_headers_are_on_every_answer(service: RunningService) -> None:
    for path in ("/", "/docs", "/api/auth/config", "/api/auth/me", "/nothing", "/metrics"):
        headers = (await service.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "object-src 'none'" in headers["content-security-policy"]
        assert "strict-transport-security" not in headers
        assert "server" not in headers


async def test_strict_transport_is_said_over_https_alone(open_service: OpenService) -> None:
    service = await open_service(TRUSTED_PROXIES="127.0.0.1")
    response = await service.client.get("/api/health", headers={"X-Forwarded-Proto": "https"})
    assert "max-age=" in response.headers["strict-transport-security"]
    assert "strict-transport-security" not in (await service.client.get("/api/health")).headers


async def test_api_answers_are_kept_by_nobody_and_images_by_the_browser(service: RunningService) -> None:
    guest = await service.guest()
    data = await guest.image()
    for path in ("/api/auth/me", "/api/history", "/api/quota", "/api/health", "/nothing", "/api/images/img_nothing"):
        assert (await guest.client.get(path)).headers["cache-control"] == "no-store"
    assert (await guest.client.post("/api/auth/guest", json={})).headers["cache-control"] == "no-store"
    for url in (data["image_url"], data["thumbnail_url"]):
        assert (await guest.client.get(url)).headers["cache-control"] == "private, max-age=31536000, immutable"


async def test_the_pages_files_are_kept_and_asked_for_again(service: RunningService) -> None:
    page = (await service.client.get("/")).text
    found = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page)
    assert found
    for path in found:
        response = await service.client.get(path)
        assert response.headers["cache-control"] == "no-cache"
        again = await service.client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304


async def test_without_a_setting_no_other_origin_may_read(service: RunningService) -> None:
    response = await service.client.get("/api/auth/config", headers={"Origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_only_the_origins_of_the_setting_may_read(open_service: OpenService) -> None:
    service = await open_service(CORS_ORIGINS=f"{PAGE},https://second.example")
    for path in ("/api/auth/config", "/api/auth/me", "/nothing"):
        response = await service.client.get(path, headers={"Origin": PAGE})
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in response.headers["vary"]
        exposed = response.headers["access-control-expose-headers"]
        assert {"X-Request-ID", "RateLimit", "Retry-After", "Content-Disposition"} <= set(exposed.split(", "))
        # For the cookie of the refresh token, which is why the origin is named and never `*`.
        assert response.headers["access-control-allow-credentials"] == "true"
        for origin in ("https://evil.example", f"{PAGE}.evil.example", "null", "http://page.example"):
            response = await service.client.get(path, headers={"Origin": origin})
            assert "access-control-allow-origin" not in response.headers


async def test_a_preflight_is_answered_for_the_origins_of_the_setting(open_service: OpenService) -> None:
    service = await open_service(CORS_ORIGINS=PAGE)
    headers = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-api-key,x-token-transport",
    }
    response = await service.client.options("/api/generate/basic", headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["x-request-id"]
    refused = await service.client.options("/api/generate/basic", headers=headers | {"Origin": "https://evil.example"})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "origins",
    ["*", f"{PAGE},*", "null", "https://*", "https://*.example", f"{PAGE}/", f"{PAGE}/path", "https://me@page.example",
     "https://", "https://page.example:port"],
)  # fmt: skip
def test_what_is_no_origin_is_no_setting(origins: str) -> None:
    """A browser that asks with any other spelling would never be let in."""
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        load_settings({"CORS_ORIGINS": origins})


def test_an_origin_may_have_a_port() -> None:
    assert load_settings({"CORS_ORIGINS": "http://localhost:5173"}).server.cors_origins == ("http://localhost:5173",)


async def test_production_hides_the_documentation(open_service: OpenService) -> None:
    service = await open_service(**PRODUCTION)
    for path in ("/docs", "/openapi.json", "/redoc", "/docs-assets/swagger-ui.css"):
        error_of(await service.client.get(path), 404, "NOT_FOUND")
    assert (await service.client.get("/api/health")).status_code == 200


async def test_production_shows_the_documentation_where_asked_to(open_service: OpenService) -> None:
    service = await open_service(DOCS_ENABLED="true", **PRODUCTION)
    for path in ("/docs", "/openapi.json"):
        assert (await service.client.get(path)).status_code == 200


async def test_development_can_hide_the_documentation_too(open_service: OpenService) -> None:
    service = await open_service(DOCS_ENABLED="false")
    for path in ("/docs", "/openapi.json"):
        error_of(await service.client.get(path), 404, "NOT_FOUND")
