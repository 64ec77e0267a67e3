"""Two who change the same account at the same moment: with PostgreSQL they do not wait for each other by themselves."""

import asyncio
from collections import Counter

import pytest

from core.clock import now_ms
from services.accounts.models import User, github_folder_id
from services.accounts.owners import Claim, Evidence, OwnerRegistry
from services.accounts.users import add_user, get_user, set_left
from tests.conftest import OpenService
from tests.support.databases import databases
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.people import begin, come_back, registered, set_up_admin, try_register
from tests.support.service import RunningService

ROUNDS = 5
AT_ONCE = 6


@pytest.fixture
async def service(open_service: OpenService, github: GitHubStandin) -> RunningService:
    return await open_service(
        **github_settings(github), ADMIN_LOGINS="boss", LOGIN_RATE_PER_MINUTE="1000", GUEST_RATE_PER_HOUR="1000"
    )  # fmt: skip


async def at_once(service: RunningService, github: GitHubStandin, people: list[Person]) -> list[int]:
    """Each of them comes back from GitHub; statuses."""
    walks = [github.approve((await begin(service))["redirect_url"], person) for person in people]
    answers = await asyncio.gather(*(come_back(service, code, state) for code, state in walks))
    return [answer.status_code for answer in answers]


async def test_somebody_new_who_signs_in_in_many_tabs_has_one_account(
    service: RunningService, github: GitHubStandin
) -> None:
    for number in range(ROUNDS):
        ada = Person(number + 1, f"ada{number}")
        assert await at_once(service, github, [ada] * AT_ONCE) == [200] * AT_ONCE
    rows = databases.ask(service.data_dir, "SELECT github_id, count(*) FROM users GROUP BY github_id")
    assert sorted(rows) == [(number + 1, 1) for number in range(ROUNDS)]


async def test_somebody_who_signs_in_while_their_images_are_found_again_has_one_account(
    service: RunningService, github: GitHubStandin
) -> None:
    registry, since = OwnerRegistry(service.container.database), Evidence(now_ms(), stays=True)
    for number in range(1, ROUNDS + 1):
        claims = {Claim(f"usr_{number}", github_folder_id(number)): since}
        signing_in = asyncio.create_task(at_once(service, github, [Person(number, f"ada{number}")] * AT_ONCE))
        found = await asyncio.gather(*(registry.find_or_make(claims) for _ in range(AT_ONCE)))
        assert await signing_in == [200] * AT_ONCE
        assert len({user_id for owners in found for user_id in owners.ids.values()}) == 1
    rows = databases.ask(service.data_dir, "SELECT github_id, count(*) FROM users GROUP BY github_id")
    assert sorted(rows) == [(number, 1) for number in range(1, ROUNDS + 1)]


async def test_of_many_who_sign_in_with_a_login_that_is_an_admins_the_first_has_it(
    service: RunningService, github: GitHubStandin
) -> None:
    people = [Person(number + 1, "boss") for number in range(AT_ONCE)]
    assert await at_once(service, github, people) == [200] * AT_ONCE
    roles = Counter(role for (role,) in databases.ask(service.data_dir, "SELECT role FROM users"))
    assert roles == {"admin": 1, "user": AT_ONCE - 1}


async def test_an_admin_and_somebody_who_leaves_meet_and_neither_is_a_defect(service: RunningService) -> None:
    admin = await set_up_admin(service)
    for number in range(ROUNDS):
        user = await registered(service, f"ada{number}@example.org")
        changed, left = await asyncio.gather(
            admin.client.patch(f"/api/admin/users/{user.id}", json={"role": "admin", "blocked": False}),
            user.client.delete("/api/auth/me"),
        )
        assert changed.status_code in {200, 404}, changed.text
        assert left.status_code == 200, left.text
    assert databases.ask(service.data_dir, "SELECT count(*) FROM users WHERE left_at IS NULL") == [(1,)]
    assert databases.ask(service.data_dir, "SELECT count(*) FROM users WHERE left_at > 0 AND is_granted_admin") == [
        (0,)
    ]


@pytest.mark.postgresql_only
async def test_of_two_who_hold_the_set_up_token_at_once_the_second_is_told_that_it_was_used(
    service: RunningService,
) -> None:
    token = (service.data_dir / "setup_token").read_text()
    # Under this lock everybody can see that there is no admin yet, and nobody can write that there is one.
    with databases.holding(service.data_dir, "LOCK TABLE milestones IN SHARE MODE"):
        registering = [
            asyncio.create_task(try_register(service, f"ada{number}@example.org", setup_token=token))
            for number in range(2)
        ]
        await asyncio.sleep(1.5)
        assert not any(task.done() for task in registering)
    assert sorted(answer.status_code for answer in await asyncio.gather(*registering)) == [201, 403]


@pytest.mark.postgresql_only
async def test_an_account_that_is_being_changed_cannot_go_meanwhile(service: RunningService) -> None:
    database = service.container.database
    user = User(id="usr_a", role="user", folder_id="f", created_at=now_ms())
    await database.write(lambda connection: add_user(connection, user))
    with databases.holding(service.data_dir, "SELECT 1 FROM users WHERE id = 'usr_a' FOR UPDATE"):
        reading = asyncio.create_task(database.write(lambda connection: get_user(connection, "usr_a", locked=True)))
        leaving = asyncio.create_task(database.write(lambda connection: set_left(connection, "usr_a", now_ms())))
        await asyncio.sleep(0.3)
        assert not reading.done()
        assert not leaving.done()
        assert await database.read(lambda connection: get_user(connection, "usr_a")) == user
    assert await leaving
    assert await reading in {user, None}
