"""Clients that go on asking whatever happens, and what they were answered."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.faults.support import OWN_KEY, error_code, plain_client

LOADED = 2  # clients of each kind
PAUSE_SECONDS = 0.03


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent, how long it took (s), what came back. `kind` says what was asked."""

    kind: str
    sent_at: float
    seconds: float
    status: int
    problem: str

    @property
    def is_right(self) -> bool:
        return self.status == 200


@dataclass
class Outage:
    """Moments on the clock of `Answer`."""

    begun: float = 0.0
    over: float = 0.0


@dataclass
class Load:
    """Clients that go on asking until they are told to stop."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, kind: str, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        sent_at = time.monotonic()
        response = await client.send(request)
        seconds = time.monotonic() - sent_at
        problem = "" if response.status_code == 200 else error_code(response)
        if response.status_code == 503 and "retry-after" not in response.headers:
            problem = "no Retry-After"
        self.answers.append(Answer(kind, sent_at, seconds, response.status_code, problem))
        return response

    async def member(self, kind: str, build: Callable[[httpx.AsyncClient], httpx.Request]) -> None:
        """Somebody who signs in, and again when the session is gone."""
        async with plain_client(self.url) as visitor:
            while not self._stopped.is_set():
                signed_in = await self.ask("guest", visitor, signing_in(visitor))
                if signed_in.status_code == 200:
                    headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
                    async with plain_client(self.url, headers) as client:
                        await self._until_signed_out(kind, client, build)
                await asyncio.sleep(PAUSE_SECONDS)

    async def visitor(self, kind: str, build: Callable[[httpx.AsyncClient], httpx.Request]) -> None:
        async with plain_client(self.url) as client:
            while not self._stopped.is_set():
                await self.ask(kind, client, build(client))
                await asyncio.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        self._stopped.set()

    async def _until_signed_out(
        self, kind: str, client: httpx.AsyncClient, build: Callable[[httpx.AsyncClient], httpx.Request]
    ) -> None:
        while not self._stopped.is_set():
            response = await self.ask(kind, client, build(client))
            if response.status_code == 401:
                return
            if kind == "generate" and response.status_code == 200:
                self.images.add(response.json()["data"]["history_id"])
            await asyncio.sleep(PAUSE_SECONDS)


def generation(client: httpx.AsyncClient) -> httpx.Request:
    return client.build_request("POST", "/api/generate/basic", json={"prompt": "load", "aspect_ratio": "1:1"})


def own_generation(client: httpx.AsyncClient) -> httpx.Request:
    request = generation(client)
    request.headers["X-API-Key"] = OWN_KEY
    return request


def signing_in(client: httpx.AsyncClient) -> httpx.Request:
    return client.build_request("POST", "/api/auth/guest", json={})


def reading(path: str) -> Callable[[httpx.AsyncClient], httpx.Request]:
    return lambda client: client.build_request("GET", path)


@asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    load = Load(url)
    async with asyncio.TaskGroup() as group:
        for _ in range(LOADED):
            group.create_task(load.member("generate", generation))
            group.create_task(load.member("history", reading("/api/history")))
            group.create_task(load.member("quota", reading("/api/quota")))
            group.create_task(load.visitor("anonymous", own_generation))
            group.create_task(load.visitor("guest", signing_in))
            group.create_task(load.visitor("config", reading("/api/auth/config")))
        try:
            yield load
        finally:
            load.stop()


def report(load: Load, outage: Outage) -> None:
    """The numbers, for whoever runs it with -s."""
    hurt = [answer for answer in load.answers if outage.begun < answer.sent_at < outage.over]
    for kind in sorted({answer.kind for answer in load.answers}):
        seconds = sorted(answer.seconds for answer in hurt if answer.kind == kind)
        statuses = sorted({answer.status for answer in hurt if answer.kind == kind})
        after = [answer for answer in load.answers if answer.kind == kind and answer.sent_at > outage.over]
        right = min((answer.sent_at + answer.seconds for answer in after if answer.is_right), default=0) - outage.over
        if seconds:
            sys.stdout.write(
                f"{kind:10} {len(seconds):4} {statuses} max {seconds[-1]:.2f} s, right again after {right:.2f} s\n"
            )
