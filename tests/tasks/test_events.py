"""The streams of events: ids that increase whatever happens to Redis, one end a round, nothing after it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from core.clients.redis import open_redis
from services.tasks.events import (
    EVENTS,
    KEPT_SECONDS,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    PAGE_EVENTS,
    TaskEvent,
    TaskEvents,
)

TASK = "task_01kga0000000abcdefghjkmnpq"
OTHER = "task_01kga0000000abcdefghjkmnpr"
STARTED = TaskEvent("started", 0)
COMPLETED = TaskEvent("completed", 100, "Done", data={"images": ["img_1"]})


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(SecretStr(redis_url)) as client:
        yield client


@pytest.fixture
def events(redis: Redis) -> TaskEvents:
    return TaskEvents(redis)


async def told(events: TaskEvents, task_id: str = TASK, after: int = 0) -> list[str]:
    return [f"{stored.event.type} {stored.event.percent}" for stored in await events.read(task_id, after)]


async def test_what_is_told_is_read_as_it_was_told(events: TaskEvents, redis: Redis) -> None:
    progress = TaskEvent("progress", 40, "2 of 5", data={"done": [0, 3], "text": "灯塔", "nested": {"a": None}})
    for event in (STARTED, progress):
        await events.emit(TASK, event)
    end = await events.end_once(TASK, 1, COMPLETED)
    stored = await events.read(TASK)
    assert [found.event for found in stored] == [STARTED, progress, COMPLETED]
    assert [found.round for found in stored] == [None, None, 1]
    assert stored[-1].id == end
    assert await events.read(OTHER) == []
    assert KEPT_SECONDS - 60 < await redis.ttl(EVENTS(task_id=TASK)) <= KEPT_SECONDS


async def test_who_goes_on_from_an_id_gets_what_is_behind_it(events: TaskEvents) -> None:
    for percent in range(PAGE_EVENTS + 20):
        await events.emit(TASK, TaskEvent("progress", percent))
    first = await events.read(TASK)
    assert len(first) == PAGE_EVENTS
    rest = await events.read(TASK, first[-1].id)
    ids = [found.id for found in first + rest]
    assert ids == sorted(set(ids))
    assert [found.event.percent for found in first + rest] == list(range(PAGE_EVENTS + 20))
    assert await events.read(TASK, ids[-1]) == []


async def test_ids_increase_when_redis_has_been_emptied_and_when_its_clock_goes_back(
    events: TaskEvents, redis: Redis
) -> None:
    await events.emit(TASK, STARTED)
    before = (await events.read(TASK))[-1].id
    await redis.flushall()
    await events.emit(TASK, STARTED)
    after = (await events.read(TASK))[-1].id
    assert after > before
    # An entry of tomorrow is what a clock that was set back leaves.
    tomorrow = after + 24 * 3600 * 1_000_000_000
    await redis.xadd(EVENTS(task_id=TASK), {"event": "{}"}, id=f"{tomorrow // 1000}-{tomorrow % 1000}")
    for percent in (1, 2):
        await events.emit(TASK, TaskEvent("progress", percent))
    assert await told(events, after=tomorrow) == ["progress 1", "progress 2"]


async def test_a_round_ends_once_however_many_say_so(events: TaskEvents) -> None:
    await events.emit(TASK, STARTED)
    ends = [COMPLETED, TaskEvent("failed", 10)]
    ids = await asyncio.gather(*(events.end_once(TASK, 1, ends[number % 2]) for number in range(20)))
    assert len(set(ids)) == 1
    assert await told(events) == ["started 0", "completed 100"]


async def test_the_next_round_has_an_end_of_its_own(events: TaskEvents) -> None:
    first = await events.end_once(TASK, 1, TaskEvent("failed", 0))
    await events.emit(TASK, STARTED)
    second = await events.end_once(TASK, 2, COMPLETED)
    assert second > first
    assert await told(events) == ["failed 0", "started 0", "completed 100"]
    # Somebody who comes late with the first end changes nothing.
    assert await events.end_once(TASK, 1, TaskEvent("failed", 0)) == second
    assert len(await events.read(TASK)) == 3


async def test_nothing_follows_an_end_but_another_start(events: TaskEvents) -> None:
    await events.emit(TASK, STARTED)
    await events.end_once(TASK, 1, COMPLETED)
    await events.emit(TASK, TaskEvent("progress", 50, "from a worker that has lost the task"))
    assert await told(events) == ["started 0", "completed 100"]


async def test_an_end_is_found_behind_a_start_that_came_late(events: TaskEvents) -> None:
    end = await events.end_once(TASK, 1, COMPLETED)
    await events.emit(TASK, STARTED)
    assert await events.end_once(TASK, 1, COMPLETED) == end
    assert await told(events) == ["completed 100", "started 0"]


async def test_a_stream_is_bounded(events: TaskEvents, redis: Redis) -> None:
    await asyncio.gather(*(events.emit(TASK, TaskEvent("progress", 1)) for _ in range(MAX_EVENTS + 500)))
    assert MAX_EVENTS <= await redis.xlen(EVENTS(task_id=TASK)) < MAX_EVENTS + 200


async def test_an_event_is_small(events: TaskEvents) -> None:
    with pytest.raises(ValueError, match="bytes"):
        await events.emit(TASK, TaskEvent("progress", 1, data={"image_base64": "A" * MAX_EVENT_BYTES}))


async def test_ends_and_other_events_go_their_own_ways(events: TaskEvents) -> None:
    with pytest.raises(ValueError, match="is an end"):
        await events.emit(TASK, COMPLETED)
    with pytest.raises(ValueError, match="is no end"):
        await events.end_once(TASK, 1, STARTED)


async def test_an_id_of_another_task_or_of_nonsense_is_the_beginning(events: TaskEvents) -> None:
    await events.emit(TASK, STARTED)
    await events.emit(OTHER, STARTED)
    own, others = (await events.read(TASK))[0].id, (await events.read(OTHER))[0].id
    assert events.position(TASK, str(own)) == own
    nonsense = [
        "", "0", "-1", "1.5", "nonsense", "0-0", "$", "9" * 400, "٣", "\0", f"{own} ", f"{own + 1}", f"{others}",
    ]  # fmt: skip
    assert [events.position(TASK, text) for text in nonsense] == [0] * len(nonsense)


async def test_without_redis_an_event_is_lost_and_nothing_else() -> None:
    async with open_redis(SecretStr("redis://127.0.0.1:1/0")) as away:
        await TaskEvents(away).emit(TASK, STARTED)
