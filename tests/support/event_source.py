"""Reading Server-Sent Events as the HTML standard has it, as far as a stream of ours goes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

SECONDS = 10


@dataclass(frozen=True)
class Sent:
    """One event as it came. `id` is empty when it has none."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def what(self) -> str:
        return f"{self.type} {self.data['percent']}"


async def parsed(response: httpx.Response) -> AsyncIterator[Sent]:
    """Each event as soon as it is there."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            assert name in {"id", "event", "data", "retry"}, line
            assert name not in fields, f"two lines of {name}"
            fields[name] = value
        elif "data" in fields:
            yield Sent(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}
        else:
            assert set(fields) == {"retry"}
            fields = {}


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, task_id: str, last_id: str = "", **query: str
) -> AsyncIterator[AsyncIterator[Sent]]:
    """The events behind `last_id`; leaving the block hangs up."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/events", headers=headers, params=query) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parsed(response)


async def next_event(events: AsyncIterator[Sent]) -> Sent:
    """The next one that is no heartbeat."""
    async with asyncio.timeout(SECONDS):
        async for event in events:
            if event.type != "heartbeat":
                return event
    raise AssertionError("the stream has ended")


async def all_of(client: httpx.AsyncClient, task_id: str, last_id: str = "", **query: str) -> list[Sent]:
    """Everything until the service ends the stream, without heartbeats."""
    async with watching(client, task_id, last_id, **query) as events:
        return [event async for event in events if event.type != "heartbeat"]
