"""What admins do with accounts, and what admins are spared."""

from typing import Any

import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.accounts.models import Visitor
from tests.conftest import OPERATOR_KEY, OpenService
from tests.support.answers import error_of, fields_of
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.people import PASSWORD, registered, set_up_admin, try_login, with_github
from tests.support.service import Guest, RunningService


@pytest.fixture
async def service(open_service: OpenService) -> RunningService:
    return await open_service(LOGIN_RATE_PER_MINUTE="1000")


@pytest.fixture
async def admin(service: RunningService) -> Guest:
    return await set_up_admin(service)


async def listed(admin: Guest, **query: Any) -> dict[str, Any]:
    response = await admin.client.get("/api/admin/users", params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def change(admin: Guest, user: Guest, **fields: Any) -> dict[str, Any]:
    response = await admin.client.patch(f"/api/admin/users/{user.id}", json=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_accounts_are_listed_searched_and_filtered(service: RunningService, admin: Guest) -> None:
    ada = await registered(service, "ada@example.org", name="Ada Lovelace")
    bob = await registered(service, "100%_bob@example.org")
    guest = await service.guest()
    page = await listed(admin, limit=3)
    assert [item["id"] for item in page["items"]] == [guest.id, bob.id, ada.id]
    assert (page["total"], page["limit"], page["offset"], page["has_more"]) == (4, 3, 0, True)
    rest = await listed(admin, limit=3, offset=3)
    assert ([item["id"] for item in rest["items"]], rest["has_more"]) == ([admin.id], False)
    for search, found in (
        ("LOVE", [ada]), ("ada@", [ada]), ("%", [bob]), ("_", [guest, bob, ada, admin]), ("0%_b", [bob]),
        (ada.id, [ada]), ("'; --", []),
    ):  # fmt: skip
        assert [item["id"] for item in (await listed(admin, search=search))["items"]] == [who.id for who in found]
    assert [item["id"] for item in (await listed(admin, role="guest"))["items"]] == [guest.id]
    assert (await listed(admin, blocked=True))["total"] == 0
    assert not [key for key in page["items"][0] if "password" in key]


@pytest.mark.parametrize("search", ["Ángel Ödön", "ángel", "ÖDÖN", "ngel ö"])
async def test_a_name_is_found_in_any_letters_and_either_case(
    service: RunningService, admin: Guest, search: str
) -> None:
    angel = await registered(service, "angel@example.org", name="Ángel Ödön")
    assert [item["id"] for item in (await listed(admin, search=search))["items"]] == [angel.id]


async def test_bad_queries_and_bodies_are_named(service: RunningService, admin: Guest) -> None:
    response = await admin.client.get("/api/admin/users", params={"role": "king", "limit": 0, "sort": "x"})
    assert set(fields_of(response)) == {"role", "limit", "sort"}
    user = await registered(service, "ada@example.org")
    for body in ({"role": "king"}, {"blocked": "yes"}, {"name": "x"}, {"role": "guest"}):
        response = await admin.client.patch(f"/api/admin/users/{user.id}", json=body)
        assert set(fields_of(response)) == set(body)
    missing = await admin.client.patch("/api/admin/users/usr_nobody", json={"blocked": True})
    error_of(missing, 404, "NOT_FOUND")


async def test_a_blocked_users_live_tokens_are_403_at_once(service: RunningService, admin: Guest) -> None:
    user = await registered(service, "ada@example.org")
    image = await user.image()
    changed = await change(admin, user, blocked=True)
    assert changed["blocked"] is True
    assert changed["blocked_at"]
    for response in (
        await user.client.get("/api/auth/me"),
        await user.generate(),
        await user.client.get(f"/api/images/{image['history_id']}"),
        await user.client.delete("/api/auth/me"),
        await service.client.post("/api/auth/refresh", json={"refresh_token": user.tokens["refresh_token"]}),
        await try_login(service, "ada@example.org"),
    ):
        assert error_of(response, 403, "FORBIDDEN")["details"] == {"reason": "blocked"}
    error_of(await try_login(service, "ada@example.org", PASSWORD + "x"), 401, "UNAUTHORIZED")
    assert [item["id"] for item in (await listed(admin, blocked=True))["items"]] == [user.id]

    await change(admin, user, blocked=False)
    assert (await user.client.get("/api/auth/me")).status_code == 200
    assert (await try_login(service, "ada@example.org")).status_code == 200


async def test_a_guest_is_blocked_too(service: RunningService, admin: Guest) -> None:
    guest = await service.guest()
    await change(admin, guest, blocked=True)
    error_of(await guest.generate(), 403, "FORBIDDEN")


async def test_a_role_is_given_and_taken_and_holds_for_live_tokens(service: RunningService, admin: Guest) -> None:
    user = await registered(service, "ada@example.org")
    error_of(await user.client.get("/api/admin/users"), 403, "FORBIDDEN")
    assert (await change(admin, user, role="admin"))["role"] == "admin"
    assert (await user.client.get("/api/admin/users")).status_code == 200
    refreshed = await service.client.post("/api/auth/refresh", json={"refresh_token": user.tokens["refresh_token"]})
    assert refreshed.json()["user"]["role"] == "admin"
    await change(admin, user, role="user")
    error_of(await user.client.get("/api/admin/users"), 403, "FORBIDDEN")


async def test_nobody_shuts_themselves_out(admin: Guest) -> None:
    for body in ({"role": "user"}, {"blocked": True}):
        response = await admin.client.patch(f"/api/admin/users/{admin.id}", json=body)
        assert [field["reason"] for field in fields_of(response).values()] == ["yourself"]


async def test_an_admin_by_setting_stays_one(open_service: OpenService, github: GitHubStandin) -> None:
    service = await open_service(**github_settings(github), ADMIN_LOGINS="ada")
    ada = await with_github(service, github, Person(1, "ada"))
    admin = await set_up_admin(service)
    response = await admin.client.patch(f"/api/admin/users/{ada.id}", json={"role": "user"})
    assert fields_of(response)["role"]["reason"] == "named_by_setting"
    assert "ADMIN_LOGINS" in fields_of(response)["role"]["message"]


async def test_admins_have_no_quota(open_service: OpenService, gemini: GeminiStandin) -> None:
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_GLOBAL_QUOTA="1", TRIAL_ENABLED="false",
        TRIAL_COOLDOWN_SECONDS="60",
    )  # fmt: skip
    admin = await set_up_admin(service)
    for _ in range(3):
        await admin.image()
    quota = (await admin.client.get("/api/quota")).json()
    assert (quota["is_trial_mode"], quota["global"]["used"], quota["cooldown"]["active"]) == (False, 0, False)
    assert {request["headers"]["x-goog-api-key"] for request in gemini.requests()} == {OPERATOR_KEY}


async def test_who_was_an_admin_when_they_began_to_sign_in_is_none_by_its_end(
    service: RunningService, admin: Guest
) -> None:
    """The password is checked for as long as another admin needs to change a role and all sessions that there are."""
    ada = await registered(service, "ada@example.org")
    await change(admin, ada, role="admin")
    as_read = await service.container.accounts.user(ada.id)
    await change(admin, ada, role="user")
    tokens = await service.container.accounts.welcome(as_read, Visitor("127.0.0.1", "a browser"))
    assert tokens.user.role == "user"
    client = service.with_headers(Authorization=f"Bearer {tokens.access_token}")
    error_of(await client.get("/api/admin/users"), 403, "FORBIDDEN")
