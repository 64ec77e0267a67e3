"""GET /api/v1/tasks/{id}/events: what has happened, then what happens, each once and in order."""

import asyncio
import random
import re

import httpx
import pytest

from services.tasks.events import EVENTS
from services.tasks.streams import MAX_STREAMS
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.event_source import Sent, all_of, next_event, parsed, watching
from tests.support.service import Guest, RunningService
from tests.support.waiting import eventually
from tests.tasks.watched import WatchedTasks

SECONDS = 10


@pytest.fixture
async def service(open_service: OpenService) -> RunningService:
    return await open_service(RATE_LIMIT_REQUESTS="1000")


@pytest.fixture
def tasks(service: RunningService) -> WatchedTasks:
    return WatchedTasks(service)


@pytest.fixture
async def guest(service: RunningService) -> Guest:
    return await service.guest()


@pytest.fixture
async def running(tasks: WatchedTasks, guest: Guest) -> str:
    """A task that has started."""
    task_id = tasks.add(guest.id)
    await tasks.start(task_id)
    return task_id


def whats(events: list[Sent]) -> list[str]:
    return [event.what for event in events]


async def test_who_comes_after_the_end_gets_the_history_and_the_end(
    tasks: WatchedTasks, guest: Guest, running: str
) -> None:
    await tasks.progress(running, 40, text="two\nlines, 灯塔")
    end = await tasks.end(running)
    response = await guest.client.get(f"/api/v1/tasks/{running}/events")
    assert response.headers["cache-control"].startswith("no-store")
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert response.text.startswith("retry: 2000\n\nid: ")
    sent = [event async for event in parsed(response)]
    assert whats(sent) == ["started 0", "progress 40", "completed 40"]
    ids = [int(event.id) for event in sent]
    assert ids == sorted(set(ids))
    assert ids[-1] == end
    for event in sent:
        assert set(event.data) == {"task_id", "type", "percent", "message", "timestamp", "data"}
        assert (event.data["task_id"], event.data["type"]) == (running, event.type)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.data["timestamp"])
    assert sent[1].data["data"] == {"text": "two\nlines, 灯塔"}


async def test_what_happens_is_told_as_it_happens(open_service: OpenService) -> None:
    """By the bell: who only looked now and then would be told after a minute."""
    service = await open_service()
    tasks, guest = WatchedTasks(service, look_seconds=60, heartbeat_seconds=60), await service.guest()
    task_id = tasks.add(guest.id)
    async with watching(guest.client, task_id) as events:
        await tasks.start(task_id)
        assert (await next_event(events)).what == "started 0"
        for percent in (10, 20, 30):
            await tasks.progress(task_id, percent)
            assert (await next_event(events)).what == f"progress {percent}"
        await tasks.end(task_id, "failed")
        assert (await next_event(events)).what == "failed 30"
        async with asyncio.timeout(SECONDS):
            assert [event async for event in events] == []


async def test_a_heartbeat_has_no_id_and_comes_all_the_time(guest: Guest, tasks: WatchedTasks, running: str) -> None:
    await tasks.progress(running, 30)
    async with watching(guest.client, running) as events, asyncio.timeout(SECONDS):
        sent = [await anext(events) for _ in range(5)]
    assert whats(sent) == ["started 0", "progress 30", "heartbeat 30", "heartbeat 30", "heartbeat 30"]
    assert [event.id for event in sent[2:]] == ["", "", ""]
    assert all(event.data["type"] == "heartbeat" for event in sent[2:])


async def test_who_is_cut_off_twenty_times_sees_every_event_once_and_in_order(
    tasks: WatchedTasks, guest: Guest, running: str, soak: bool
) -> None:
    random_ = random.Random(6)
    cuts = 200 if soak else 20

    async def work() -> None:
        for percent in range(1, 101):
            await tasks.progress(running, percent)
            await asyncio.sleep(random_.uniform(0, 0.02))
        await tasks.end(running)

    working = asyncio.create_task(work())
    seen: list[Sent] = []
    for cut in range(cuts + 1):
        patience = random_.randint(0, 6) if cut < cuts else 1000
        async with watching(guest.client, running, seen[-1].id if seen else "") as events, asyncio.timeout(SECONDS):
            while patience and (event := await anext(events, None)) is not None:
                patience -= 1
                if event.id:
                    seen.append(event)
        if seen and seen[-1].type == "completed":
            break
    await working
    assert cut == cuts, "it was over before it was cut off often enough"
    assert whats(seen) == ["started 0", *(f"progress {percent}" for percent in range(1, 101)), "completed 100"]
    assert len({event.id for event in seen}) == len(seen)


async def test_who_has_seen_the_end_is_told_not_to_come_back(tasks: WatchedTasks, guest: Guest, running: str) -> None:
    last = (await all_of_ended(tasks, guest, running))[-1]
    response = await guest.client.get(f"/api/v1/tasks/{running}/events", headers={"Last-Event-ID": last.id})
    assert (response.status_code, response.content) == (204, b"")
    # Until there is something to come back for.
    tasks.retry(running)
    async with watching(guest.client, running, last.id) as events:
        await tasks.start(running)
        assert (await next_event(events)).what == "started 0"
        await tasks.end(running, "cancelled")
        assert (await next_event(events)).what == "cancelled 0"
    assert whats(await all_of(guest.client, running)) == ["started 0", "completed 0", "started 0", "cancelled 0"]


async def all_of_ended(tasks: WatchedTasks, guest: Guest, task_id: str) -> list[Sent]:
    await tasks.end(task_id)
    return await all_of(guest.client, task_id)


async def test_a_stream_goes_on_when_the_task_is_tried_again_meanwhile(
    tasks: WatchedTasks, guest: Guest, running: str
) -> None:
    await tasks.end(running, "failed")
    tasks.retry(running)
    async with watching(guest.client, running) as events:
        assert [(await next_event(events)).what for _ in range(2)] == ["started 0", "failed 0"]
        await tasks.start(running)
        await tasks.end(running)
        async with asyncio.timeout(SECONDS):
            rest = [event.what async for event in events if event.type != "heartbeat"]
    assert rest == ["started 0", "completed 0"]


async def test_an_id_in_the_address_serves_where_no_header_can_be_sent(
    tasks: WatchedTasks, guest: Guest, running: str
) -> None:
    started, *_ = await all_of_ended(tasks, guest, running)
    assert whats(await all_of(guest.client, running, last_event_id=started.id)) == ["completed 0"]
    # A browser that comes back by itself sends the header, to the same address.
    assert whats(await all_of(guest.client, running, last_id=started.id, last_event_id="0")) == ["completed 0"]


async def test_an_id_of_another_task_or_of_nonsense_is_the_beginning(
    tasks: WatchedTasks, guest: Guest, running: str
) -> None:
    other = tasks.add(guest.id)
    await tasks.start(other)
    foreign = (await all_of_ended(tasks, guest, other))[-1].id
    await tasks.end(running)
    for last_id in (foreign, "nonsense", "-1", "0", "9" * 5000, "1e9", "ü", "' OR 1=1"):
        sent = await all_of(guest.client, running, last_event_id=last_id)
        assert whats(sent) == ["started 0", "completed 0"], last_id
    assert len(await all_of(guest.client, running, last_id="nonsense")) == 2


class TestLosses:
    async def test_an_end_that_nobody_told_is_told_once_to_all(
        self, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        async with watching(guest.client, running) as events:
            assert (await next_event(events)).what == "started 0"
            tasks.set(running, status="completed", percent=100)
            assert (await next_event(events)).what == "completed 100"
        answers = await asyncio.gather(*(all_of(guest.client, running) for _ in range(10)))
        assert all(answer == answers[0] for answer in answers)
        assert whats(answers[0]) == ["started 0", "completed 100"]
        assert int(answers[0][-1].id) == await tasks.tell_end(running)

    async def test_an_event_whose_bell_was_lost_is_found(
        self, service: RunningService, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        async with watching(guest.client, running) as events:
            started = await next_event(events)
            await service.container.redis.xadd(
                EVENTS(task_id=running),
                {"event": '{"type": "progress", "percent": 7}'},
                id=f"{int(started.id) // 1000 + 1}-{int(started.id) % 1000}",
            )
            assert (await next_event(events)).what == "progress 7"

    async def test_when_redis_is_emptied_the_row_says_how_things_are(
        self, service: RunningService, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        await tasks.progress(running, 60)
        async with watching(guest.client, running) as early:
            seen = [await next_event(early) for _ in range(2)]
            await service.container.redis.delete(EVENTS(task_id=running))
            async with watching(guest.client, running) as late, asyncio.timeout(SECONDS):
                state = await next_event(late)
                assert (state.id, state.what) == ("", "progress 60")
                await tasks.progress(running, 80)
                await tasks.end(running)
                for events in (early, late):
                    assert [(await next_event(events)).what for _ in range(2)] == ["progress 80", "completed 80"]
        assert whats(await all_of(guest.client, running, seen[-1].id)) == ["progress 80", "completed 80"]

    async def test_of_a_task_that_ended_long_ago_there_is_the_end(
        self, service: RunningService, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        await tasks.end(running, "failed")
        await service.container.redis.delete(EVENTS(task_id=running))
        first = await all_of(guest.client, running)
        assert whats(first) == ["failed 0"]
        assert await all_of(guest.client, running) == first

    async def test_of_a_task_that_waits_there_is_nothing_yet(self, tasks: WatchedTasks, guest: Guest) -> None:
        async with watching(guest.client, tasks.add(guest.id)) as events, asyncio.timeout(SECONDS):
            assert [(await anext(events)).what for _ in range(2)] == ["heartbeat 0", "heartbeat 0"]

    async def test_the_stream_of_a_task_that_is_deleted_ends(
        self, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        async with watching(guest.client, running) as events, asyncio.timeout(SECONDS):
            tasks.forget(running)
            assert [event.type async for event in events if event.type != "heartbeat"] == ["started"]
        error_of(await guest.client.get(f"/api/v1/tasks/{running}/events"), 404, "NOT_FOUND")


class TestManyStreams:
    async def test_one_user_has_so_many_and_leaves_the_others_alone(
        self, service: RunningService, tasks: WatchedTasks, guest: Guest, running: str
    ) -> None:
        path = f"/api/v1/tasks/{running}/events"
        streams = [guest.client.stream("GET", path) for _ in range(MAX_STREAMS)]
        opened = await asyncio.gather(*(stream.__aenter__() for stream in streams))
        assert [response.status_code for response in opened] == [200] * MAX_STREAMS
        refused = await guest.client.get(path)
        assert error_of(refused, 429, "TOO_MANY_STREAMS")["details"] == {"limit": MAX_STREAMS, "retry_after": 5}
        assert "event_streams_open 20.0" in (await service.client.get("/metrics")).text
        other = await service.guest()
        task_id = tasks.add(other.id)
        await tasks.start(task_id)
        assert whats(await all_of_ended(tasks, other, task_id)) == ["started 0", "completed 0"]

        # Whoever hangs up makes room.
        await streams[0].__aexit__(None, None, None)

        async def opens() -> bool:
            async with guest.client.stream("GET", path) as response:
                return response.status_code == 200

        assert await eventually(opens)
        for stream in streams[1:]:
            await stream.__aexit__(None, None, None)

    async def test_all_watchers_of_a_process_share_one_connection_to_redis(
        self, service: RunningService, tasks: WatchedTasks
    ) -> None:
        guests = [await service.guest() for _ in range(10)]
        owned = [(guest, tasks.add(guest.id)) for guest in guests for _ in range(10)]
        reading = [asyncio.create_task(all_of(guest.client, task_id)) for guest, task_id in owned]
        for _, task_id in owned:
            await tasks.start(task_id)
            await tasks.progress(task_id, 50)
        assert len(await service.container.redis.client_list("pubsub")) == 1
        await asyncio.gather(*(tasks.end(task_id) for _, task_id in owned))
        async with asyncio.timeout(SECONDS):
            answers = await asyncio.gather(*reading)
        assert [whats(answer) for answer in answers] == [["started 0", "progress 50", "completed 50"]] * 100


async def test_another_users_task_looks_like_one_that_is_not_there(
    service: RunningService, tasks: WatchedTasks, running: str
) -> None:
    other = await service.guest()

    def told(response: httpx.Response) -> object:
        return error_of(response, 404, "NOT_FOUND")

    for method, path in (("GET", "events"), ("POST", "events-token")):
        theirs = told(await other.client.request(method, f"/api/v1/tasks/{running}/{path}"))
        assert theirs == told(await other.client.request(method, f"/api/v1/tasks/task_nowhere/{path}"))
        nobody = await service.client.request(method, f"/api/v1/tasks/{running}/{path}")
        error_of(nobody, 401, "UNAUTHORIZED")
