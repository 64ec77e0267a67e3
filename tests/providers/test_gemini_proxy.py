"""The way to Gemini through a proxy that the environment names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from benchmarks.gemini_standin import GeminiStandin
from tests.providers.test_gemini_retries import make_image, provider_service


class ForwardProxy:
    """Forwards plain HTTP as a proxy does, one request a connection, and keeps the heads that it saw."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError), closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            host, _, port = head.split(b" ")[1].removeprefix(b"http://").partition(b"/")[0].decode().partition(":")
            away_reader, away = await asyncio.open_connection(host, int(port))
            with closing(away):
                away.write(head.replace(f"http://{host}:{port}".encode(), b"", 1))
                await asyncio.gather(self._pump(reader, away), self._pump(away_reader, writer))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


@pytest.fixture
async def proxy() -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    yield proxy
    server.close()
    await proxy.close()


@pytest.mark.parametrize(("credentials", "header"), [("", None), ("ada:s%20ecret@", "Basic YWRhOnMgZWNyZXQ=")])
async def test_a_proxy_of_the_environment_is_used_with_its_credentials(
    gemini: GeminiStandin,
    proxy: ForwardProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    credentials: str,
    header: str | None,
) -> None:
    gemini.configure(pixels=(64, 64))
    monkeypatch.setenv("http_proxy", f"http://{credentials}127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    async with provider_service(gemini.url, tmp_path) as service:
        result = await make_image(service)
    assert result.image.size > 0
    (head,) = proxy.heads
    assert head.startswith(f"POST {gemini.url}/v1beta/models/")
    assert (f"proxy-authorization: {header}".lower() in head.lower()) == (header is not None)


async def test_no_proxy_is_heeded(
    gemini: GeminiStandin, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gemini.configure(pixels=(64, 64))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with provider_service(gemini.url, tmp_path) as service:
        await make_image(service)
    assert proxy.heads == []
