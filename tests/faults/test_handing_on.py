"""What a guest made goes on to their account, what somebody who leaves made goes, though a process dies over it."""

from collections import Counter
from collections.abc import Awaitable
from functools import partial

import pytest

from benchmarks.gemini_standin import GeminiStandin
from services.container import Container
from services.history.records import read_record
from tests.conftest import OpenService
from tests.faults.histories import FEW, clearing_settings, files_of, next_run, rows_of, with_images, work_and_die


@pytest.fixture
def settings(gemini: GeminiStandin, redis_url: str) -> dict[str, str]:
    gemini.configure(pixels=(64, 64))
    return clearing_settings(gemini.url, redis_url)


def adopt(container: Container, *, guest_id: str, user_id: str) -> Awaitable[None]:
    return container.history.adopt(guest_id, user_id)


def purge_user(container: Container, *, user_id: str) -> Awaitable[None]:
    return container.history.purge_user(user_id)


@pytest.mark.parametrize("point", ["record_changed:1", "record_changed:13", "row_changed:20", 0.01, 0.05])
async def test_what_a_guest_made_is_handed_on_whole_though_the_process_dies(
    open_service: OpenService, settings: dict[str, str], point: str | float
) -> None:
    service = await open_service(**settings)
    guest, account, bystander = [await with_images(service, count) for count in (FEW, 2, 2)]
    kept = {key: digest for key, digest in files_of(service).items() if not key.endswith(".json")}
    job = partial(adopt, guest_id=guest.id, user_id=account.id)
    await work_and_die(settings, service.data_dir, job, point)

    await service.container.history.adopt(guest.id, account.id)

    assert [(await each.history())["total"] for each in (guest, account, bystander)] == [0, FEW + 2, 2]
    assert {key: digest for key, digest in files_of(service).items() if not key.endswith(".json")} == kept
    records = [read_record(path.read_bytes()).image for path in service.stored("users/**/*.json")]
    owners = Counter((image.user_id, image.expires_at is None) for image in records)
    assert owners == {(account.id, True): FEW, (account.id, False): 2, (bystander.id, False): 2}


@pytest.mark.parametrize("point", ["clearance_noted", "all_cleared", "objects_removed", 0.01, 0.05])
async def test_nothing_is_left_of_who_leaves_though_the_process_dies(
    open_service: OpenService, settings: dict[str, str], point: str | float
) -> None:
    service = await open_service(**settings)
    bystander, guest = await with_images(service, 2), await with_images(service, FEW)
    kept = files_of(service, bystander)
    await guest.image("unlisted", save_to_history=False)
    await work_and_die(settings, service.data_dir, partial(purge_user, user_id=guest.id), point)

    await next_run(service)

    if isinstance(point, float) and await rows_of(service, guest):
        await service.container.history.purge_user(guest.id)
    assert (files_of(service), await rows_of(service, guest)) == (kept, 0)
    assert service.stored("unlisted/**/*") == []
