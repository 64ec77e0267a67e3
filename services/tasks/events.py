"""What has happened to a task, for whoever watches it: one Redis stream a task, kept 24 h after the last event.

The row in the database is the truth; events follow it. Losing them costs a watcher some progress and nothing else: the
end is put back from the row (`end_once`), by the sweep and by whoever watches.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clients.redis import RedisKey
from core.clock import Milliseconds, now_ms
from core.errors import JsonValue
from core.logging import get_logger

KEPT_SECONDS = 24 * 3600
# More than a task has to tell; a watcher who is further behind than this misses the oldest.
MAX_EVENTS = 2000
# An event holds links and ids, never an image: some readers stop at 128 KiB a line.
MAX_EVENT_BYTES = 16 * 1024
PAGE_EVENTS = 100

# The channel that tells of something new in a stream has the stream's own name.
EVENTS = RedisKey("task:{task_id}:events", "stream: what has happened to a task", KEPT_SECONDS)

Ending = Literal["completed", "failed", "cancelled"]
EventType = Literal["started", "progress"] | Ending
TaskStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ENDINGS: frozenset[str] = frozenset(get_args(Ending))

# Ids are microseconds of Redis's clock, so that they go on increasing when Redis has lost a stream and begins it anew.
# Behind them stands a number of the task's own, by which an id of another task is known.
_TAGS = 1000
_ID_DIGITS = 19

# KEYS: the stream.   ARGV: tag, the event, what it is, round of an end or '', most events, ttl (s)
# Answers the id of the event; of the end that is there already; nothing for what comes after the end, from a worker
# that has lost the task.
_APPEND = """
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if ARGV[4] ~= '' then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-')) do
    local round = field(entry, 'round')
    if round then
      if tonumber(round) >= tonumber(ARGV[4]) then return entry[1] end
      break
    end
  end
elseif newest and field(newest, 'round') and ARGV[3] ~= 'started' then
  return false
end
local time = redis.call('TIME')
local id = time[1] * 1000000 + time[2]
if newest then id = math.max(id, tonumber(string.match(newest[1], '^%d+')) + 1) end
local fields = {'event', ARGV[2]}
if ARGV[4] ~= '' then fields = {'event', ARGV[2], 'round', ARGV[4]} end
id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], string.format('%.0f-%s', id, ARGV[1]), unpack(fields))
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('PUBLISH', KEYS[1], id)
return id
"""

log = get_logger(__name__)


@dataclass(frozen=True)
class TaskEvent:
    """`percent` 0–100; `message` for people, in English; `data` for programs: ids and counts, at most a few KB."""

    type: EventType
    percent: int
    message: str = ""
    timestamp: Milliseconds = field(default_factory=now_ms)
    data: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvent:
    """An event at its place in the stream. `round`: the one that it ends, None when it ends none."""

    id: int
    event: TaskEvent
    round: int | None


@dataclass(frozen=True)
class TaskSnapshot:
    """A task's row as far as its events go: its state is told in the words of the event that belongs to it."""

    status: TaskStatus
    round: int
    percent: int
    message: str
    changed_at: Milliseconds
    data: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDINGS

    def event(self) -> TaskEvent | None:
        """The end, or how far it is; None while nothing has happened yet."""
        if self.status == "pending":
            return None
        kind: EventType = "progress" if self.status == "processing" else self.status
        return TaskEvent(kind, self.percent, self.message, self.changed_at, self.data)


class TaskReader(Protocol):
    """Who knows the rows."""

    async def snapshot(self, user_id: str, task_id: str) -> TaskSnapshot:
        """Raises NotFound for what is not there, or not theirs."""
        ...

    async def owner(self, task_id: str) -> str:
        """Whose it is. Raises NotFound."""
        ...


class TaskEvents:
    """The streams in Redis. The only place that spells their keys."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._append = redis.register_script(_APPEND)

    async def emit(self, task_id: str, event: TaskEvent) -> None:
        """Tell that a task started, or how far it is; what comes after its end is dropped.

        Without Redis it is lost, and the log says so: work goes on all the same. An end goes through `end_once`.
        """
        if event.type in ENDINGS:
            raise ValueError(f"{task_id}: {event.type} is an end")
        try:
            await self._add(task_id, event, "")
        except RedisError as error:
            log.warning("event lost", task_id=task_id, type=event.type, reason=str(error))

    async def end_once(self, task_id: str, round_: int, event: TaskEvent) -> int:
        """Tell how a round of a task ended, unless that has been told; answers the id of the end.

        Raises redis.exceptions.RedisError.
        """
        if event.type not in ENDINGS:
            raise ValueError(f"{task_id}: {event.type} is no end")
        return _number(await self._add(task_id, event, str(round_)))

    async def read(self, task_id: str, after: int = 0) -> list[StoredEvent]:
        """The next events behind an id, at most 100, oldest first. Raises redis.exceptions.RedisError."""
        entries = await self._redis.xrange(
            EVENTS(task_id=task_id), min=f"({after // _TAGS}-{after % _TAGS}", count=PAGE_EVENTS
        )
        return [_stored(entry_id, fields) for entry_id, fields in entries]

    async def delete(self, task_id: str) -> None:
        """Forget what has happened. Raises redis.exceptions.RedisError."""
        await self._redis.delete(EVENTS(task_id=task_id))

    @staticmethod
    def position(task_id: str, last_id: str) -> int:
        """Where somebody goes on who has seen the event with this id, as text; 0, the beginning, for what is no id of
        this task: whoever sends that has seen nothing of it.
        """
        if not (last_id.isascii() and last_id.isdigit() and len(last_id) <= _ID_DIGITS):
            return 0
        number = int(last_id)
        return number if number % _TAGS == _tag(task_id) else 0

    async def _add(self, task_id: str, event: TaskEvent, round_: str) -> Any:
        body = orjson.dumps(event)
        if len(body) > MAX_EVENT_BYTES:
            raise ValueError(f"{task_id}: an event of {len(body)} bytes")
        return await self._append(
            keys=[EVENTS(task_id=task_id)],
            args=[_tag(task_id), body, event.type, round_, MAX_EVENTS, KEPT_SECONDS],
        )


def _tag(task_id: str) -> int:
    return zlib.crc32(task_id.encode()) % _TAGS


def _number(entry_id: str) -> int:
    """One number of the two that Redis keeps: greater for a later event."""
    microseconds, _, tag = entry_id.partition("-")
    return int(microseconds) * _TAGS + int(tag)


def _stored(entry_id: str, fields: Mapping[str, str]) -> StoredEvent:
    round_ = fields.get("round")
    return StoredEvent(
        _number(entry_id), TaskEvent(**orjson.loads(fields["event"])), None if round_ is None else int(round_)
    )
