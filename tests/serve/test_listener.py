"""Connections that a process cannot take for the moment wait, and are taken when it can again."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT, ASKING = 3, 8
# It says hello to whoever comes, with LEFT file descriptors more than it has at the start.
PROGRAM = f"""
import asyncio, os, resource, socket, uvloop
from api.listener import PoliteListener

class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")

async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    PoliteListener(listening, Hello, lambda: 1).start()
    most = max(map(int, os.listdir("/proc/self/fd"))) + {LEFT}
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(listening.getsockname()[1], flush=True)
    await asyncio.sleep(60)

uvloop.run(main())
"""


@pytest.fixture
def port() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


async def test_without_a_file_descriptor_left_connections_wait_and_none_is_lost(port: int) -> None:
    asking = [await asyncio.open_connection("127.0.0.1", port) for _ in range(ASKING)]
    greeted = [asyncio.create_task(reader.readexactly(5)) for reader, _ in asking]
    await asyncio.wait(greeted, timeout=1.5)
    taken = {index for index, task in enumerate(greeted) if task.done()}
    assert 0 < len(taken) < ASKING
    for _ in range(ASKING):
        for index, task in enumerate(greeted):
            if task.done():
                asking[index][1].close()
        await asyncio.wait(greeted, timeout=0.7)
    assert [task.result() for task in greeted] == [b"hello"] * ASKING
