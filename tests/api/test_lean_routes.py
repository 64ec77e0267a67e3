"""Lean routes: what FastAPI would have checked is checked, and nothing that looks like a check is left out."""

import pytest
from fastapi import APIRouter, Depends, Request, Response

from api.lean_route import LeanRoute
from tests.support.service import RunningService


async def somebody(request: Request) -> None:
    """A dependency that would refuse some."""


async def endpoint(request: Request) -> Response:
    return Response()


def test_a_dependency_that_would_not_run_is_refused() -> None:
    router = APIRouter(route_class=LeanRoute)
    with pytest.raises(TypeError, match="would not run"):
        router.get("/somewhere", dependencies=[Depends(somebody)])(endpoint)


@pytest.mark.parametrize("path", ["/api/quota", "/api/history"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer no.such.token"}, {"Authorization": "Bearer"}],
)
async def test_nobody_gets_through(service: RunningService, path: str, headers: dict[str, str]) -> None:
    answer = await service.client.get(path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("limit=0", "limit", "too_small"),
        ("limit=a", "limit", "wrong_type"),
        ("limit=1&limit=101", "limit", "too_large"),
        ("sort=best", "sort", "not_allowed"),
        ("lmit=5", "lmit", "unknown_field"),
        ("date_from=yesterday", "date_from", "bad_format"),
        ("favorites_only=perhaps", "favorites_only", "wrong_type"),
    ],
)
async def test_a_wrong_query_is_named(service: RunningService, query: str, field: str, reason: str) -> None:
    guest = await service.guest()
    answer = await guest.client.get(f"/api/history?{query}")
    assert answer.status_code == 422
    problem = answer.json()["error"]["details"]["fields"][0]
    assert (problem["field"], problem["reason"]) == (field, reason)


@pytest.mark.parametrize("path", ["/api/quota", "/api/history"])
async def test_another_method_is_not_allowed(service: RunningService, path: str) -> None:
    guest = await service.guest()
    answer = await guest.client.put(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"


async def test_a_service_key_is_no_google_key_for_the_quota_either(service: RunningService) -> None:
    guest = await service.guest()
    answer = await guest.client.get("/api/quota", headers={"X-API-Key": "nbk_0123456789abcdef"})
    assert answer.json()["error"]["code"] == "INVALID_API_KEY"
