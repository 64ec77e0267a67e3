"""Watching a task: what has happened to it, then what happens, until it has ended.

A watcher waits for a bell that rings when something is told of their task, and then reads on in its stream. A bell may
be lost, a stream too; so they look every few seconds all the same, and when there is nothing new at the task's row:
the end of a round that has none in the stream is put there.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from redis.exceptions import RedisError

from core.clients.redis_channels import RedisChannels
from core.clock import Milliseconds, now_ms
from core.errors import AppError, DependencyUnavailable, JsonValue, NotFound
from core.logging import get_logger
from core.metrics import Metrics
from services.tasks.events import EVENTS, EventType, TaskEvent, TaskEvents, TaskReader, TaskSnapshot

LOOK_SECONDS = 5.0
HEARTBEAT_SECONDS = 10.0  # 15 are promised
# For one user at one process: a browser has six connections to a host, and somebody may have several.
MAX_STREAMS = 20
RETRY_SECONDS = 5

log = get_logger(__name__)


class TooManyStreams(AppError):
    """So many streams of events are open for this user already (`limit`)."""

    code = "TOO_MANY_STREAMS"
    status = 429
    type = "too_many_streams"

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit, retry_after=RETRY_SECONDS)


@dataclass(frozen=True)
class Notice:
    """What a watcher is told. Without an `id` it is no part of the history: a heartbeat, or what a row says."""

    id: int | None
    type: EventType | Literal["heartbeat"]
    percent: int
    message: str = ""
    timestamp: Milliseconds = field(default_factory=now_ms)
    data: Mapping[str, JsonValue] = field(default_factory=dict)


class TaskStreams:
    """`look_seconds`: how long a watcher trusts the bell; `heartbeat_seconds` between signs of life."""

    def __init__(
        self,
        events: TaskEvents,
        channels: RedisChannels,
        tasks: TaskReader,
        metrics: Metrics,
        *,
        look_seconds: float = LOOK_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._events = events
        self._channels = channels
        self._tasks = tasks
        self._metrics = metrics
        self._look_seconds = look_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._open = Counter[str]()
        self._bells = set[asyncio.Event]()
        self._stopping = False

    def check_room(self, user_id: str) -> None:
        """Raises TooManyStreams."""
        if self._open[user_id] >= MAX_STREAMS:
            raise TooManyStreams(MAX_STREAMS)

    async def watch(self, user_id: str, task_id: str, last_id: str = "") -> AsyncGenerator[list[Notice]]:
        """Pages of notices behind the event `last_id`: the first at once, even if it is empty; none at all for who has
        seen the end.

        Raises before the first page NotFound, TooManyStreams, DependencyUnavailable, redis.exceptions.RedisError.
        What fails later is waited out: heartbeats go on, and nothing is missed.
        """
        self.check_room(user_id)
        watch = _Watch(self._events, self._tasks, user_id, task_id, last_id)
        with self._place(user_id, task_id) as bell:
            await watch.look()
            if watch.is_over:
                return
            yield await watch.beginning()
            async with aclosing(self._go_on(watch, bell)) as pages:
                async for page in pages:
                    yield page

    async def watch_accepted(
        self, user_id: str, task_id: str, last_id: str, accepted: Notice
    ) -> AsyncGenerator[list[Notice]]:
        """The same for whoever has just started the task: first `accepted`, then what happens.

        Nothing is refused any more, since it is on: whether there is room was asked before.
        """
        watch = _Watch(self._events, self._tasks, user_id, task_id, last_id)
        with self._place(user_id, task_id) as bell:
            yield [accepted]
            async with aclosing(self._go_on(watch, bell)) as pages:
                async for page in pages:
                    yield page

    def stop(self) -> None:
        """End all streams, and each that is opened from now on after its first page: the process is to end."""
        self._stopping = True
        for bell in self._bells:
            bell.set()

    async def _go_on(self, watch: "_Watch", bell: asyncio.Event) -> AsyncGenerator[list[Notice]]:
        clock = asyncio.get_running_loop().time
        heartbeat_at = clock() + self._heartbeat_seconds
        while not (watch.is_over or self._stopping):
            bell.clear()
            if page := await _news(watch):
                yield page
            elif not (watch.is_over or self._stopping):
                await _rung(bell, min(self._look_seconds, heartbeat_at - clock()))
            if clock() >= heartbeat_at:
                heartbeat_at = clock() + self._heartbeat_seconds
                yield [Notice(None, "heartbeat", watch.percent)]

    @contextmanager
    def _place(self, user_id: str, task_id: str) -> Iterator[asyncio.Event]:
        """Among the open streams; answers the bell that rings for this task, and when the process is to end."""
        self._open[user_id] += 1
        self._metrics.event_streams.inc()
        try:
            with self._channels.listening(EVENTS(task_id=task_id)) as bell:
                self._bells.add(bell)
                try:
                    yield bell
                finally:
                    self._bells.discard(bell)
        finally:
            self._metrics.event_streams.dec()
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]


class _Watch:
    """How far one watcher has got. `end`: id of the event that ends the task's last round, None while that goes on."""

    def __init__(self, events: TaskEvents, tasks: TaskReader, user_id: str, task_id: str, last_id: str) -> None:
        self._events = events
        self._tasks = tasks
        self._user_id = user_id
        self.task_id = task_id
        self._after = events.position(task_id, last_id)
        self._end: int | None = None
        self._snapshot: TaskSnapshot | None = None
        self.percent = 0

    @property
    def is_over(self) -> bool:
        return self._end is not None and self._after >= self._end

    def give_up(self) -> None:
        self._end = self._after

    async def look(self) -> None:
        """At the row, whose end is put into the stream where it is missing."""
        snapshot = self._snapshot = await self._tasks.snapshot(self._user_id, self.task_id)
        self.percent = snapshot.percent
        event = snapshot.event()
        if event is None or not snapshot.has_ended:
            self._end = None
        else:
            self._end = await self._events.end_once(self.task_id, snapshot.round, event)

    async def beginning(self) -> list[Notice]:
        """The first page; of a task whose stream was lost, what its row says."""
        page = await self.next_page()
        if page or self._after or self._end is not None or self._snapshot is None:
            return page
        event = self._snapshot.event()
        return [] if event is None else [_notice(None, event)]

    async def next_page(self) -> list[Notice]:
        """What is new, at most up to the end; empty when nothing is."""
        stored = await self._events.read(self.task_id, self._after)
        if not stored or any(found.round is not None for found in stored):
            await self.look()
        if self._end is not None:
            stored = [found for found in stored if found.id <= self._end]
        if stored:
            self._after, self.percent = stored[-1].id, stored[-1].event.percent
        return [_notice(found.id, found.event) for found in stored]


def _notice(id_: int | None, event: TaskEvent) -> Notice:
    return Notice(id_, event.type, event.percent, event.message, event.timestamp, event.data)


async def _news(watch: _Watch) -> list[Notice]:
    """The next page; what is away now may be back when it is asked for again."""
    try:
        return await watch.next_page()
    except NotFound:
        watch.give_up()  # it has been deleted
    except (RedisError, DependencyUnavailable) as error:
        log.info("a watcher waits", task_id=watch.task_id, reason=str(error))
    return []


async def _rung(bell: asyncio.Event, seconds: float) -> None:
    """Wait for the bell, but no longer."""
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return
