"""Receivers as they should not be, addresses that are nobody's business, and secrets that are none."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.webhooks.schedule import RetrySchedule
from services.webhooks.shares import OF_ONE_USER_TO_ONE_HOST
from tests.clients.test_url_guard import PRIVATE, PUBLIC, SPELLINGS
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.databases import databases
from tests.support.receiver import Answer, Names, Receiver, running_receiver
from tests.support.service import Guest, RunningService
from tests.tasks.couriers import delivering, ended, opened, until_received, until_told, webhook_of
from tests.tasks.workers import cancel, submit

TWICE = RetrySchedule(offsets=(0.0, 0.1), jitter=0.0)


Tries = list[tuple[int | None, str | None]]
CASES: list[tuple[Answer, str, Tries]] = [
    (Answer(204, b""), "delivered", [(204, None)]),
    (Answer(200, harm="endless_body"), "delivered", [(200, None)]),
    (Answer(410, b"gone"), "failed", [(410, None)]),
    (Answer(500), "failed", [(500, None)] * 2),
    (Answer(302, headers={"location": "http://127.0.0.1:{inside}/"}), "failed", [(302, None)] * 2),
    (Answer(307, headers={"location": "http://127.0.0.1:{inside}/"}), "failed", [(307, None)] * 2),
    (Answer(harm="hang"), "failed", [(None, "url_timeout")] * 2),
    (Answer(harm="hang_up"), "failed", [(None, "url_answer")] * 2),
    (Answer(harm="no_http"), "failed", [(None, "url_answer")] * 2),
]


async def test_what_receivers_answer_is_written_down_and_ends_or_goes_on(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    async def check(answer: Answer, state: str, tries: Tries) -> None:
        somebody = await tasks_service.guest()
        headers = {name: value.format(inside=receiver.port) for name, value in answer.headers.items()}
        async with running_receiver() as other:
            other.answers = [replace(answer, headers=headers)]
            webhook = await until_told(somebody, await ended(somebody, other.url), state)
        found = [(attempt["status"], attempt["error"]) for attempt in webhook["attempts"]]
        assert (found, webhook["next_try_at"]) == (tries, None), answer
        assert all(len(attempt["answer"]) <= 2048 for attempt in webhook["attempts"])

    async with (
        opened(tasks_service, task_settings, schedule=TWICE, try_seconds=1.0) as container,
        delivering(container),
    ):
        await asyncio.gather(*(check(*case) for case in CASES))
        async with running_receiver() as closed:
            nobody = closed.url
        webhook = await until_told(guest, await ended(guest, nobody), "failed")
    assert {attempt["error"] for attempt in webhook["attempts"]} == {"url_connection"}
    assert receiver.connections == 0, "a redirect was followed"


async def test_a_receiver_is_let_be_for_as_long_as_it_asks(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    receiver.answers = [Answer(429, headers={"retry-after": "1"}), Answer(200)]
    schedule = RetrySchedule(offsets=(0.0, 0.1, 60.0), jitter=0.0)
    async with opened(tasks_service, task_settings, schedule=schedule) as container, delivering(container):
        webhook = await until_told(guest, await ended(guest, receiver.url))
    first, second = (datetime.fromisoformat(attempt["at"]) for attempt in webhook["attempts"])
    assert second - first >= timedelta(seconds=1)


async def test_who_hangs_holds_up_neither_others_nor_their_own_other_receivers(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    other_guest = await tasks_service.guest()
    async with running_receiver() as hanging, opened(tasks_service, task_settings) as container:
        hanging.answers = [Answer(harm="hang")]
        stuck = [await ended(guest, hanging.url) for _ in range(OF_ONE_USER_TO_ONE_HOST + 4)]
        own = await ended(guest, f"http://localhost:{receiver.port}/own")
        async with delivering(container):
            await until_received(hanging, OF_ONE_USER_TO_ONE_HOST)
            others = [await ended(other_guest, receiver.url) for _ in range(3)]
            for task_id in others:
                await until_told(other_guest, task_id)
            await until_told(guest, own)
        assert hanging.connections == OF_ONE_USER_TO_ONE_HOST
        assert {(await webhook_of(guest, task_id))["state"] for task_id in stuck} == {"pending"}
    # Who was broken off in a try has not lost it.
    assert databases.ask(tasks_service.data_dir, "SELECT count(*) FROM webhook_deliveries WHERE claim IS NOT NULL") == [
        (0,)
    ]


async def test_a_name_that_leads_elsewhere_later_is_not_connected_to(
    tasks_service: RunningService, task_settings: dict[str, str], guest: Guest, receiver: Receiver
) -> None:
    names = Names(rebinding_example=[[PUBLIC], ["127.0.0.1"]])
    none_allowed = {**task_settings, "ALLOWED_PRIVATE_HOSTS": ""}
    async with opened(tasks_service, none_allowed, schedule=TWICE, resolver=names) as container:
        # The API asks the same resolver as the courier.
        own = tasks_service.app.state.container
        tasks_service.app.state.container = replace(own, image_tasks=container.image_tasks)
        task_id = await submit(guest, fields={"callback_url": f"http://rebinding.example:{receiver.port}/hook"})
        tasks_service.app.state.container = own
        assert (await cancel(guest, task_id)).status_code == 200
        async with delivering(container):
            webhook = await until_told(guest, task_id, "failed")
    assert [attempt["error"] for attempt in webhook["attempts"]] == ["url_not_public"] * 2
    assert names.asked == ["rebinding.example"] * 3
    assert receiver.connections == 0


async def test_what_is_no_receiver_or_no_secret_is_refused_by_its_field_and_nothing_is_held(
    open_service: OpenService, task_settings: dict[str, str]
) -> None:
    service = await open_service(**{**task_settings, "ALLOWED_PRIVATE_HOSTS": ""})
    guest = await service.guest()
    url = f"https://{PUBLIC}/hook"
    private = [f"[{address}]" if ":" in address else address for address in PRIVATE if "%" not in address]
    callbacks = [f"http://{host}/hook" for host in (*SPELLINGS, *private, "localhost", "localhost.")]
    callbacks += ["", "ftp://example.org/", "//example.org/", f"https://ada:secret@{PUBLIC}/", f"https://{PUBLIC}:22/"]
    wrong: list[tuple[str, dict[str, Any]]] = [("callback_url", {"callback_url": address}) for address in callbacks]
    secrets = ["", "7-chars", "x" * 257, "x" * 10_240, "whsec_dG9vIHNob3J0"]
    wrong += [("webhook_secret", {"callback_url": url, "webhook_secret": secret}) for secret in secrets]
    wrong += [("callback_url", {"webhook_secret": "long enough"}), ("callback_url", {"callback_url": 7})]
    for field, fields in wrong:
        answer = await guest.client.post("/api/v1/tasks/generate", json={"params": {"prompt": "x"}, **fields})
        error = error_of(answer, 422, "VALIDATION_ERROR")
        assert [problem["field"] for problem in error["details"]["fields"]] == [field], fields
    for table in ("tasks", "quota_holds", "webhook_deliveries"):
        assert databases.ask(service.data_dir, f"SELECT count(*) FROM {table}") == [(0,)]
    assert await guest.used() == 0
    await submit(guest, fields={"callback_url": url, "webhook_secret": "long enough"})
