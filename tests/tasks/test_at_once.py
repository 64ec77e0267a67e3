"""Changes of a task's state that come twice, late, or from two places at once; no worker runs beside them."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest

from core.clock import now_ms
from services.quota.errors import HoldGone
from services.tasks import transitions
from services.tasks.image_order import ImageOrder, share_of
from services.tasks.models import Ending, Task
from services.webhooks import store as webhooks
from services.webhooks.models import Attempt, Delivery
from services.webhooks.service import WebhookService
from services.webhooks.shares import Full
from tests.support.databases import databases
from tests.support.receiver import running_receiver
from tests.support.service import Guest, RunningService
from tests.tasks.couriers import delivering, ended, opened, until_told
from tests.tasks.workers import cancel, read, submit, submit_batch

SHARE = 5  # MAX_TASKS_PER_USER
NOBODY = Full((), (), ())
AGO_MS = 20_000  # longer than a lease, and not as long as a task may take


async def started(service: RunningService, task_id: str, worker: str, *, ago: int = 0) -> Task | None:
    begin = partial(transitions.start, task_ids=[task_id], worker=worker, now=now_ms() - ago)
    return next(iter(await service.container.database.write(begin)), None)


async def stands(service: RunningService, guest: Guest, task_id: str) -> Task:
    return await service.container.tasks.get(guest.id, task_id)


async def may_run(service: RunningService, guest: Guest, task_ids: list[str]) -> list[bool]:
    """Which of these waiting tasks have a ticket."""
    return [(await stands(service, guest, task_id)).queued_at is not None for task_id in task_ids]


async def test_of_many_starts_at_once_one_counts(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    tries = await asyncio.gather(*(started(tasks_service, task_id, f"wrk_{number}") for number in range(20)))
    (winner,) = [task for task in tries if task is not None]
    task = await stands(tasks_service, guest, task_id)
    assert (task.status, task.attempts, task.worker) == ("processing", 1, winner.worker)


async def test_a_worker_that_lost_its_lease_changes_nothing_any_more(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    late = await started(tasks_service, task_id, "wrk_late", ago=AGO_MS)
    assert late is not None
    sweep, database = tasks_service.container.task_sweep, tasks_service.container.database
    await asyncio.gather(*(sweep.sweep() for _ in range(5)))
    task = await stands(tasks_service, guest, task_id)
    assert (task.status, task.worker, task.deaths, task.attempts) == ("pending", None, 1, 1)

    async def is_refused() -> bool:
        delivered = await database.write(lambda connection: transitions.deliver(connection, late, (), 50))
        ending = partial(transitions.end, task=late, ending=Ending("failed", ()), now=now_ms(), share=SHARE)
        return not delivered and await database.write(ending) is None

    assert await is_refused()
    assert await started(tasks_service, task_id, "wrk_next") is not None
    assert await is_refused()
    renew = partial(transitions.renew, task_ids=[task_id], worker="wrk_late", now=now_ms())
    assert await database.write(renew) == {}
    assert (await read(guest, task_id))["status"] == "processing"


async def test_a_worker_renews_what_it_runs_and_not_what_it_gave_up(tasks_service: RunningService) -> None:
    """One whose end could not be written has to be found by the sweep, however much else its worker has to do."""
    guest = await tasks_service.guest()
    running, given_up = await submit(guest), await submit(guest)
    for task_id in (running, given_up):
        assert await started(tasks_service, task_id, "wrk_busy", ago=AGO_MS) is not None
    renew = partial(transitions.renew, task_ids=[running], worker="wrk_busy", now=now_ms())
    assert await tasks_service.container.database.write(renew) == {running: (1, False)}
    await tasks_service.container.task_sweep.sweep()
    assert [(await read(guest, task_id))["status"] for task_id in (running, given_up)] == ["processing", "pending"]


async def test_fifty_cancels_of_one_that_waits_give_back_once(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit_batch(guest, 4)
    await submit_batch(guest, 5)
    answers = await asyncio.gather(*(cancel(guest, task_id) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert await guest.used() == 5
    end = partial(
        transitions.end,
        task=await stands(tasks_service, guest, task_id), ending=Ending("cancelled", ()), now=now_ms(), share=SHARE,
    )  # fmt: skip
    assert await tasks_service.container.database.write(end) is None
    assert databases.ask(tasks_service.data_dir, "SELECT count(*) FROM quota_holds") == [(1,)]


async def test_the_end_of_a_task_lets_the_oldest_of_its_users_next_ones_run(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    tasks = [await submit(guest, f"number {number}") for number in range(SHARE + 3)]
    first, waiting = tasks[:SHARE], tasks[SHARE:]
    assert await may_run(tasks_service, guest, tasks) == [True] * SHARE + [False] * 3
    assert await started(tasks_service, waiting[0], "wrk_a") is None, "it has to wait"

    assert (await cancel(guest, first[2])).status_code == 200
    assert await may_run(tasks_service, guest, waiting) == [True, False, False]
    await asyncio.gather(*(cancel(guest, task_id) for task_id in first if task_id != first[2]))
    assert await may_run(tasks_service, guest, waiting) == [True] * 3
    assert await tasks_service.container.redis.zcard("arq:tasks") >= 3


async def test_what_comes_after_the_end_is_neither_shown_nor_charged_nor_kept(tasks_service: RunningService) -> None:
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    task = await started(tasks_service, task_id, "wrk_a", ago=AGO_MS)
    assert task is not None
    ending = partial(transitions.end, task=task, ending=Ending("cancelled", ()), now=now_ms(), share=SHARE)
    assert await tasks_service.container.database.write(ending) is not None

    with pytest.raises(HoldGone):
        await tasks_service.container.shares.make(ImageOrder.on(task).command(guest.id), share_of(task, 0))

    for table in ("images", "charges", "quota_holds"):
        assert databases.ask(tasks_service.data_dir, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert tasks_service.stored("users/**/*") == []


async def test_an_image_is_charged_once_by_two_workers_that_both_make_it(tasks_service: RunningService) -> None:
    """The first has lost its lease without knowing it yet, and the second has begun."""
    guest = await tasks_service.guest()
    task_id = await submit(guest)
    task = await started(tasks_service, task_id, "wrk_a")
    assert task is not None
    command, shares = ImageOrder.on(task).command(guest.id), tasks_service.container.shares
    one, other = await asyncio.gather(*(shares.make(command, share_of(task, 0)) for _ in range(2)))
    assert one.id == other.id
    assert databases.ask(tasks_service.data_dir, "SELECT count(*) FROM charges") == [(1,)]
    assert len(tasks_service.stored("users/**/*.png")) == 1


async def test_of_many_who_claim_one_webhook_one_tries_it(tasks_service: RunningService) -> None:
    database, now = tasks_service.container.database, now_ms()
    await database.write(
        lambda connection: WebhookService.announce(connection, "task_1", 1, "usr_1", "http://hooks.example/", now)
    )
    (seen,) = await database.read(lambda connection: webhooks.due(connection, now_ms(), NOBODY, 10))

    async def claimed(number: int, moment: int) -> Delivery | None:
        claim = partial(webhooks.claim, seen=seen, name=f"try_{number}", now=moment, lease_until=moment + 30_000)
        return await database.write(claim)

    (first,) = [got for got in await asyncio.gather(*(claimed(number, now_ms()) for number in range(20))) if got]
    assert await database.read(lambda connection: webhooks.due(connection, now_ms(), NOBODY, 10)) == []
    later = now_ms() + 31_000
    (second,) = [got for got in await asyncio.gather(*(claimed(number, later) for number in range(20, 40))) if got]
    assert (first.tries, second.tries) == (1, 2)

    attempt = Attempt(1, now_ms(), 0.1, status=200)
    record = partial(webhooks.record, attempt=attempt, state="delivered", next_try_at=None)
    assert await database.write(partial(record, claimed=first)) is None, "it has lost its claim"
    assert await database.write(lambda connection: webhooks.send_again(connection, seen.id, now_ms()))
    assert await database.write(partial(record, claimed=second)) == "pending", "somebody wants it sent again"
    assert await database.write(partial(record, claimed=second)) is None
    (again,) = await database.read(lambda connection: webhooks.due(connection, now_ms(), NOBODY, 10))
    assert (again.tries, again.first_at, again.attempts) == (2, None, (attempt,))


async def test_three_workers_deliver_each_webhook_once(
    tasks_service: RunningService, task_settings: dict[str, str]
) -> None:
    guests = [await tasks_service.guest() for _ in range(4)]
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(running_receiver())
        for _ in range(3):
            container = await stack.enter_async_context(opened(tasks_service, task_settings))
            await stack.enter_async_context(delivering(container))
        told = [(guest, await ended(guest, receiver.url)) for guest in guests for _ in range(6)]
        for guest, task_id in told:
            webhook = await until_told(guest, task_id)
            assert [attempt["number"] for attempt in webhook["attempts"]] == [1]
    assert sorted(request.headers["x-job-id"] for request in receiver.received) == sorted(task for _, task in told)
