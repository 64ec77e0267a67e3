"""Asks an API of this machine, without an HTTP client, whose import costs more than the rest of a start."""

import asyncio
import contextlib

TIMEOUT_SECONDS = 5
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def answers(host: str, port: int, path: str) -> bool:
    """Whether `GET path` is answered with 200 in time by what listens on the address."""
    request = f"GET {path} HTTP/1.1\r\nHost: {reachable(host, port)}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(ANY_ADDRESS.get(host, host), port)
            with contextlib.closing(writer):
                writer.write(request.encode("ascii"))
                return b" 200 " in await reader.readline()
    except OSError:  # TimeoutError is one
        return False


def reachable(host: str, port: int) -> str:
    """`host:port` under which this machine reaches it, as an address of the web spells it."""
    host = ANY_ADDRESS.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
