"""Signing in with GitHub (SPEC section 4), against a stand-in that checks PKCE."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from core.clients.github import GitHubAway, GitHubClient
from core.settings import load_settings
from services.accounts.states import STATE
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.github import CLIENT_SECRET, GitHubStandin, Mode, Person, address, github_settings
from tests.support.people import begin, come_back, try_github, with_github
from tests.support.service import RunningService

ADA = Person(583231, "ada", "Ada Lovelace", public_email="ada@example.org")


@pytest.fixture
async def service(open_service: OpenService, github: GitHubStandin) -> RunningService:
    return await open_service(**github_settings(github), LOGIN_RATE_PER_MINUTE="1000")


async def test_the_page_may_offer_it(service: RunningService) -> None:
    assert (await service.client.get("/api/auth/config")).json()["github"] is True


async def test_without_a_client_id_it_is_refused_by_name(open_service: OpenService) -> None:
    service = await open_service()
    assert (await service.client.get("/api/auth/config")).json()["github"] is False
    response = await service.client.post("/api/auth/github/login", json={})
    assert error_of(response, 403, "FORBIDDEN")["details"] == {"reason": "github_disabled"}
    assert (
        error_of(await come_back(service, "code", "state"), 403, "FORBIDDEN")["details"]["reason"] == "github_disabled"
    )


async def test_somebody_new_is_a_user_with_the_folder_of_their_numeric_id(
    service: RunningService, github: GitHubStandin
) -> None:
    ada = await with_github(service, github, ADA)

    me = (await ada.client.get("/api/auth/me")).json()
    assert me == ada.tokens["user"]
    assert (me["login"], me["name"], me["email"], me["role"]) == ("ada", "Ada Lovelace", "ada@example.org", "user")
    assert me["avatar_url"] == "https://avatars.example/u/583231"
    assert me["user_folder_id"] == "6fac44aa6f9ae93e", "the folder in the bucket of the app that came before"
    await ada.image()
    assert service.stored(f"users/{me['user_folder_id']}/**/*.png")


async def test_a_hidden_e_mail_is_read_from_the_list(service: RunningService, github: GitHubStandin) -> None:
    emails = [address("old@example.org", primary=False), address("ada@example.org")]
    ada = await with_github(service, github, Person(1, "ada", emails=emails))
    assert ada.tokens["user"]["email"] == "ada@example.org"


@pytest.mark.parametrize(
    "emails",
    [
        [],
        [address("ada@example.org", verified=False), address("other@example.org", primary=False)],
        None,  # GitHub shows none
    ],
)
async def test_only_a_primary_and_verified_address_counts(
    service: RunningService, github: GitHubStandin, emails: list[dict[str, object]] | None
) -> None:
    ada = await with_github(service, github, Person(1, "ada", emails=emails))
    assert ada.tokens["user"]["email"] is None


async def test_a_renamed_login_is_the_same_account(service: RunningService, github: GitHubStandin) -> None:
    before = await with_github(service, github, ADA)
    image = await before.image()
    after = await with_github(service, github, Person(ADA.id, "ada-l", "Ada L.", public_email="new@example.org"))

    assert after.id == before.id
    assert (after.tokens["user"]["login"], after.tokens["user"]["email"]) == ("ada-l", "new@example.org")
    assert after.tokens["user"]["user_folder_id"] == before.tokens["user"]["user_folder_id"]
    assert [item["id"] for item in (await after.history())["items"]] == [image["history_id"]]
    assert len((await after.client.get("/api/auth/sessions")).json()["sessions"]) == 2


async def test_the_same_e_mail_or_login_with_another_id_is_somebody_else(
    service: RunningService, github: GitHubStandin
) -> None:
    ada = await with_github(service, github, ADA)
    await ada.image()
    other = await with_github(service, github, Person(99, "ada", public_email="ada@example.org"))
    assert other.id != ada.id
    assert (await other.history())["total"] == 0


async def test_the_admin_is_named_by_login_in_any_case_or_by_id(
    open_service: OpenService, github: GitHubStandin
) -> None:
    service = await open_service(**github_settings(github), ADMIN_LOGINS="Ada, 4711")
    by_login = await with_github(service, github, ADA)
    by_id = await with_github(service, github, Person(4711, "grace"))
    nobody = await with_github(service, github, Person(47110, "4711"))
    assert [who.tokens["user"]["role"] for who in (by_login, by_id, nobody)] == ["admin", "admin", "user"]
    assert (await by_id.client.get("/api/admin/users")).json()["total"] == 3


async def test_a_login_that_another_has_taken_over_makes_no_admin(
    open_service: OpenService, github: GitHubStandin
) -> None:
    service = await open_service(**github_settings(github), ADMIN_LOGINS="ada")
    ada = await with_github(service, github, ADA)
    renamed = await with_github(service, github, Person(ADA.id, "ada-l"))
    stranger = await with_github(service, github, Person(99, "ada"))
    assert [who.tokens["user"]["role"] for who in (ada, renamed, stranger)] == ["admin", "admin", "user"]
    error_of(await stranger.client.get("/api/admin/users"), 403, "FORBIDDEN")


async def test_who_is_no_admin_any_more_loses_the_role_at_the_next_refresh(
    open_service: OpenService, github: GitHubStandin
) -> None:
    before = await open_service(**github_settings(github), ADMIN_LOGINS="ada")
    ada = await with_github(before, github, ADA)
    after = await open_service(**github_settings(github))
    response = await after.client.post("/api/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]})
    assert response.json()["user"]["role"] == "user"
    client_after = after.with_headers(Authorization=f"Bearer {response.json()['access_token']}")
    error_of(await client_after.get("/api/admin/users"), 403, "FORBIDDEN")


async def test_a_state_works_once(service: RunningService, github: GitHubStandin) -> None:
    code, state = github.approve((await begin(service))["redirect_url"], ADA)
    assert (await come_back(service, code, state)).status_code == 200
    again, _ = github.approve((await begin(service))["redirect_url"], ADA)
    assert error_of(await come_back(service, again, state), 401, "UNAUTHORIZED")["details"]["reason"] == "invalid_state"


@pytest.mark.parametrize("state", ["forged", "x" * 100, "*", "состояние"])
async def test_a_forged_state_is_401(service: RunningService, github: GitHubStandin, state: str) -> None:
    code, _ = github.approve((await begin(service))["redirect_url"], ADA)
    assert error_of(await come_back(service, code, state), 401, "UNAUTHORIZED")["details"]["reason"] == "invalid_state"
    assert github.tokens == []


async def test_a_state_ends_after_ten_minutes(service: RunningService, github: GitHubStandin, redis_url: str) -> None:
    code, state = github.approve((await begin(service))["redirect_url"], ADA)
    with Redis.from_url(redis_url) as redis:
        assert 590 < redis.ttl(STATE(state=state)) <= 600
        redis.pexpire(STATE(state=state), 1)
    await asyncio.sleep(0.01)
    assert error_of(await come_back(service, code, state), 401, "UNAUTHORIZED")["details"]["reason"] == "invalid_state"


async def test_the_state_of_another_sign_in_does_not_fit_the_code(
    service: RunningService, github: GitHubStandin
) -> None:
    """Whoever injects somebody's code into a sign-in of their own fails at PKCE."""
    code, _ = github.approve((await begin(service))["redirect_url"], ADA)
    own = await begin(service)
    response = await come_back(service, code, own["state"])
    assert error_of(response, 401, "UNAUTHORIZED")["details"]["reason"] == "github_refused"
    assert github.refusals == ["bad_code_verifier"]


async def test_a_code_that_github_refuses_is_401(service: RunningService, github: GitHubStandin) -> None:
    response = await come_back(service, "never-given-out", (await begin(service))["state"])
    assert error_of(response, 401, "UNAUTHORIZED")["details"]["reason"] == "github_refused"
    assert github.refusals == ["bad_verification_code"]


async def test_a_wrong_client_secret_is_no_internal_error(open_service: OpenService, github: GitHubStandin) -> None:
    service = await open_service(**github_settings(github) | {"GITHUB_CLIENT_SECRET": "wrong"})
    error_of(await try_github(service, github, ADA), 401, "UNAUTHORIZED")
    assert github.refusals == ["incorrect_client_credentials"]


@pytest.mark.parametrize("mode", ["away", "html", "odd"])
async def test_github_away_or_astray_is_503(service: RunningService, github: GitHubStandin, mode: Mode) -> None:
    github.mode = mode
    response = await try_github(service, github, ADA)
    assert error_of(response, 503, "DEPENDENCY_UNAVAILABLE")["details"]["component"] == "github"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("profile", [{"name": 5}, {"public_email": ["ada@example.org"]}])
async def test_a_profile_of_other_types_is_503(
    service: RunningService, github: GitHubStandin, profile: dict[str, Any]
) -> None:
    response = await try_github(service, github, replace(ADA, **profile))
    assert error_of(response, 503, "DEPENDENCY_UNAVAILABLE")["details"]["component"] == "github"


async def test_github_that_does_not_listen_is_503(open_service: OpenService, github: GitHubStandin) -> None:
    nowhere = github_settings(github) | {"GITHUB_BASE_URL": "http://127.0.0.1:1"}
    service = await open_service(**nowhere)
    state = (await begin(service))["state"]
    assert error_of(await come_back(service, "code", state), 503, "DEPENDENCY_UNAVAILABLE")


@pytest.mark.parametrize("mode", ["slow", "dripping"])
async def test_a_slow_github_is_not_waited_for(github: GitHubStandin, mode: Mode) -> None:
    github.mode = mode
    client = GitHubClient(load_settings(github_settings(github)).accounts, total_seconds=0.3)
    code, _ = github.approve(client.authorize_url("state", "verifier"), ADA)
    with pytest.raises(GitHubAway):
        await asyncio.wait_for(client.profile(code, "verifier"), 5)
    await client.close()


async def test_a_github_that_never_ends_its_answer_is_503(service: RunningService, github: GitHubStandin) -> None:
    github.mode = "dripping"
    error_of(await try_github(service, github, ADA), 503, "DEPENDENCY_UNAVAILABLE")
    github.mode = "well"
    assert (await try_github(service, github, ADA)).status_code == 200


async def test_bad_bodies_are_named(service: RunningService) -> None:
    for body in ({}, {"code": "", "state": ""}, {"code": 1, "state": 2}, {"code": "x" * 201, "state": "y" * 101}):
        response = await service.client.post("/api/auth/github/callback", json=body)
        fields = {field["field"] for field in error_of(response, 422, "VALIDATION_ERROR")["details"]["fields"]}
        assert fields == {"code", "state"}
    response = await service.client.post("/api/auth/github/login", json={"redirect_uri": "https://evil.example"})
    error_of(response, 422, "VALIDATION_ERROR")


async def test_nothing_of_githubs_secrets_is_kept(
    service: RunningService, github: GitHubStandin, redis_url: str
) -> None:
    await with_github(service, github, ADA)
    with Redis.from_url(redis_url) as redis:
        kept = b"".join(redis.dump(key) or b"" for key in redis.scan_iter())
    kept += databases.contents(service.data_dir)
    assert b"ada@example.org" in kept
    assert github.tokens
    for secret in (*github.tokens, CLIENT_SECRET):
        assert secret.encode() not in kept
