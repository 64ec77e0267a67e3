"""Only a live access token of ours opens anything (RFC 8725)."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from jose import jwt
from pydantic import SecretStr

from core.security import AccessTokens, KeyRing
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.service import Guest, RunningService

SECRET = "the secret of these tests, of 32 characters and more"
OTHER_SECRET = "another secret, which also has 32 characters and more"

Change = Callable[[dict[str, Any]], dict[str, Any]]


def signing_key(secret: str) -> str:
    """What the service signs access tokens with, derived as it derives it."""
    (key,) = KeyRing(SecretStr(secret)).keys("access-token")
    return base64.urlsafe_b64encode(key).decode()


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def claims_of(guest: Guest) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.get_unverified_claims(guest.tokens["access_token"])
    return claims


async def refuses(service: RunningService, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    response = await service.client.get("/api/auth/me", headers=headers)
    error = error_of(response, 401, "UNAUTHORIZED")
    assert error["type"] == "unauthorized"
    assert response.headers["www-authenticate"] == "Bearer"
    assert len(token) < 10 or token not in response.text
    # A bad token is refused also where nobody has to be signed in.
    response = await service.client.post("/api/generate/basic", json={"prompt": "a"}, headers=headers)
    error_of(response, 401, "UNAUTHORIZED")


async def accepted(service: RunningService, tokens: Mapping[str, str]) -> list[str]:
    """Which of these tokens open something."""
    statuses = {
        name: (await service.client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})).status_code
        for name, token in tokens.items()
    }
    return [name for name, status in statuses.items() if status != 401]


@pytest.fixture
async def secret_service(open_service: OpenService) -> RunningService:
    return await open_service(SECRET_KEY=SECRET)


async def test_the_access_token_says_what_the_contract_says(secret_service: RunningService) -> None:
    guest = await secret_service.guest()
    claims = claims_of(guest)
    assert set(claims) == {"iss", "aud", "sub", "sid", "role", "iat", "exp", "jti", "typ"}
    assert claims["sub"] == guest.id
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert jwt.get_unverified_header(guest.tokens["access_token"])["alg"] == "HS256"


async def test_a_token_signed_with_our_key_and_claims_opens(secret_service: RunningService) -> None:
    """Shows that the refusals below are about what each of them changes, not about how this file signs."""
    guest = await secret_service.guest()
    token = jwt.encode(claims_of(guest), signing_key(SECRET), algorithm="HS256")
    client = secret_service.with_headers(Authorization=f"Bearer {token}")
    assert (await client.get("/api/auth/me")).json()["id"] == guest.id


def without(name: str) -> Change:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


def changed(**values: Any) -> Change:
    return lambda claims: claims | values


CHANGES: dict[str, Change] = {
    "expired": changed(exp=int(time.time()) - 1),
    "no_expiry": without("exp"),
    "expiry_is_text": changed(exp="never"),
    "other_audience": changed(aud="somebody-else"),
    "no_audience": without("aud"),
    "other_issuer": changed(iss="somebody-else"),
    "no_issuer": without("iss"),
    "other_type": changed(typ="refresh"),
    "no_type": without("typ"),
    "no_subject": without("sub"),
    "no_session": without("sid"),
    "session_is_a_number": changed(sid=5),
    "session_that_is_not_there": changed(sid="ses_nothing"),
    "no_id": without("jti"),
    "no_time_of_issue": without("iat"),
    "not_valid_yet": changed(nbf=int(time.time()) + 3600),
}


async def test_claims_that_are_not_ours_are_refused(secret_service: RunningService) -> None:
    claims, key = claims_of(await secret_service.guest()), signing_key(SECRET)
    tokens = {name: jwt.encode(change(claims), key, algorithm="HS256") for name, change in CHANGES.items()}
    assert await accepted(secret_service, tokens) == []
    await refuses(secret_service, tokens["expired"])
    await refuses(secret_service, tokens["other_type"])


async def test_a_token_signed_with_another_key_is_refused(secret_service: RunningService) -> None:
    claims = claims_of(await secret_service.guest())
    keys = {"other": signing_key(OTHER_SECRET), "of_no_secret": signing_key(""), "undivided": SECRET, "empty": ""}
    tokens = {name: jwt.encode(claims, key, algorithm="HS256") for name, key in keys.items()}
    assert await accepted(secret_service, tokens) == []
    await refuses(secret_service, tokens["other"])


async def test_only_one_algorithm_is_taken(secret_service: RunningService) -> None:
    guest = await secret_service.guest()
    for algorithm in ("HS512", "HS384"):
        await refuses(secret_service, jwt.encode(claims_of(guest), signing_key(SECRET), algorithm=algorithm))


async def test_a_token_without_a_signature_algorithm_is_refused(secret_service: RunningService) -> None:
    guest = await secret_service.guest()
    _, payload, signature = guest.tokens["access_token"].split(".")
    algorithms: tuple[object, ...] = ("none", "None", "NONE", "", None, ["HS256"], {"a": 1})
    headers = [encoded({"alg": algorithm, "typ": "JWT"}) for algorithm in algorithms]
    tokens = {f"{header}.{payload}.{end}": f"{header}.{payload}.{end}" for header in headers for end in ("", signature)}
    assert await accepted(secret_service, tokens) == []
    await refuses(secret_service, f"{headers[0]}.{payload}.")


async def test_a_swapped_subject_is_refused(secret_service: RunningService) -> None:
    guest, other = await secret_service.guest(), await secret_service.guest()
    header, _, signature = guest.tokens["access_token"].split(".")
    await refuses(secret_service, f"{header}.{encoded(claims_of(guest) | {'sub': other.id})}.{signature}")


async def test_a_subject_that_does_not_own_the_session_is_refused_even_if_signed(
    secret_service: RunningService,
) -> None:
    guest, other = await secret_service.guest(), await secret_service.guest()
    claims = claims_of(guest) | {"sub": other.id}
    await refuses(secret_service, jwt.encode(claims, signing_key(SECRET), algorithm="HS256"))


async def test_a_role_in_the_token_gives_no_rights(secret_service: RunningService) -> None:
    guest = await secret_service.guest()
    token = jwt.encode(claims_of(guest) | {"role": "admin"}, signing_key(SECRET), algorithm="HS256")
    client = secret_service.with_headers(Authorization=f"Bearer {token}")
    assert (await client.get("/api/auth/me")).json()["role"] == "guest"
    assert (await client.get("/api/quota")).json()["is_trial_mode"] is True


async def test_a_truncated_token_is_refused(secret_service: RunningService) -> None:
    token: str = (await secret_service.guest()).tokens["access_token"]
    header, payload, signature = token.split(".")
    for cut in (token[:-1], token[: len(token) // 2], header, f"{header}.{payload}", f"{header}.{payload}.", "."):
        await refuses(secret_service, cut)
    for wrong in (f"{token}.{signature}", f"{token}x", f"x{token}", token.swapcase(), "..", "null"):
        await refuses(secret_service, wrong)


async def test_nested_brackets_in_a_token_are_refused_like_any_other_nonsense(secret_service: RunningService) -> None:
    for opening in ("[", '{"a":'):
        deep = base64.urlsafe_b64encode((opening * 5000).encode()).decode()
        await refuses(secret_service, f"{deep}.e30.e30")


async def test_another_scheme_is_refused(service: RunningService) -> None:
    for header in ("Basic dTpw", "Bearer", "token", "bearer\tx", "Digest a=b"):
        client = service.with_headers(Authorization=header)
        error_of(await client.get("/api/auth/me"), 401, "UNAUTHORIZED")
        error_of(await client.post("/api/generate/basic", json={"prompt": "a"}), 401, "UNAUTHORIZED")


async def test_nobody_is_told_to_sign_in(service: RunningService) -> None:
    response = await service.client.get("/api/auth/me", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    error = error_of(response, 401, "UNAUTHORIZED")
    assert error["message"] == "请先登录：身份凭证缺失、有误或已过期。"
    assert response.headers["content-language"] == "zh"


async def test_the_previous_secret_still_verifies_and_never_signs(open_service: OpenService) -> None:
    before = await open_service(SECRET_KEY=OTHER_SECRET)
    guest = await before.guest()
    after = await open_service(SECRET_KEY=SECRET, SECRET_KEY_PREVIOUS=OTHER_SECRET)
    client = after.with_headers(Authorization=f"Bearer {guest.tokens['access_token']}")
    assert (await client.get("/api/auth/me")).json()["id"] == guest.id
    response = await after.client.post("/api/auth/refresh", json={"refresh_token": guest.tokens["refresh_token"]})
    assert response.status_code == 200
    renewed = response.json()["access_token"]
    assert jwt.decode(renewed, signing_key(SECRET), algorithms=["HS256"], audience=claims_of(guest)["aud"])

    final = await open_service(SECRET_KEY=SECRET)
    await refuses(final, guest.tokens["access_token"])
    client = final.with_headers(Authorization=f"Bearer {renewed}")
    assert (await client.get("/api/auth/me")).json()["id"] == guest.id


def test_each_purpose_has_its_own_key() -> None:
    ring = KeyRing(SecretStr(SECRET))
    keys = [ring.keys(purpose)[0] for purpose in ("access-token", "refresh-token", "signed-link")]
    assert len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)


def test_no_two_tokens_are_the_same() -> None:
    tokens = AccessTokens(KeyRing(SecretStr(SECRET)), 900)
    assert len({tokens.issue("u", "s", "guest", 1_000_000_000) for _ in range(50)}) == 50
