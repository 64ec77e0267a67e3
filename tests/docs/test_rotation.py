"""docs/operations.md, "Rotating SECRET_KEY": nobody notices when it is done in the order that stands there."""

from tests.conftest import OpenService
from tests.support.service import RunningService

OLD, NEW = "old-0123456789abcdef0123456789ABCDEF", "new-0123456789abcdef0123456789ABCDEF"


async def lets_in(service: RunningService, tokens: dict[str, str], link: str) -> bool:
    """Whether a token and an image's link from another host are good here; both or neither."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    token = (await service.client.get("/api/auth/me", headers=headers)).status_code
    image = (await service.client.get(link)).status_code
    assert (token, image) in {(200, 200), (401, 401), (401, 404)}
    return token == 200


async def made_at(service: RunningService) -> tuple[dict[str, str], str]:
    """A guest's tokens, and the path of the link to an image of theirs."""
    guest = await service.guest()
    link: str = (await guest.image())["image_url"]
    return guest.tokens, link.removeprefix(service.url)


async def test_each_step_lets_in_whom_the_step_before_let_in(open_service: OpenService) -> None:
    before = await open_service(SECRET_KEY=OLD)
    first = await open_service(SECRET_KEY=OLD, SECRET_KEY_PREVIOUS=NEW)
    second = await open_service(SECRET_KEY=NEW, SECRET_KEY_PREVIOUS=OLD)
    after = await open_service(SECRET_KEY=NEW)

    # While a step is taken, hosts of two neighbouring ones answer at random.
    for here, there in ((before, first), (first, second), (second, after)):
        for host, other in ((here, there), (there, here)):
            assert await lets_in(other, *await made_at(host))

    # Each key in its own time: what was signed with the old one ends with it, and not before.
    old = await made_at(before)
    assert [await lets_in(host, *old) for host in (before, first, second, after)] == [True, True, True, False]
    # Without step 1 a host that has the new key already would give out what the others refuse.
    new = await made_at(second)
    assert [await lets_in(host, *new) for host in (before, first, second, after)] == [False, True, True, True]


async def test_a_session_outlives_the_change(open_service: OpenService) -> None:
    tokens = (await (await open_service(SECRET_KEY=OLD)).guest()).tokens
    after = await open_service(SECRET_KEY=NEW)
    response = await after.client.post("/api/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert response.status_code == 200, response.text
    assert response.json()["user"]["id"] == tokens["user"]["id"]
