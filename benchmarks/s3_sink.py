"""The least that speaks S3: takes objects, forgets the bytes of large ones, answers at once; any bucket, any keys.

For what putting an image costs the one who puts it; a real server would take more of the machine than both of what is
compared. It keeps conditions and small objects, so that ours finds what it looks for.
"""

import argparse
import asyncio
import subprocess
import sys
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

_ROOT = Path(__file__).resolve().parent.parent
_KEPT_BYTES = 64 * 1024
_HEADERS = 'etag: "0"\r\nlast-modified: Sun, 22 Nov 2026 10:11:12 GMT\r\n'
_EMPTY_LIST = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class S3Sink:
    """Starts it as a subprocess."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.s3_sink"]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class _Objects:
    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = first.split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                if "expect" in headers:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                data = await _body(reader, int(headers.get("content-length", "0")))
                status, answer = self._answer(method, path, "if-none-match" in headers, data)
                length = f"content-length: {len(answer)}\r\n" if status != HTTPStatus.NO_CONTENT else ""
                writer.write(f"HTTP/1.1 {status.value} {status.phrase}\r\n{_HEADERS}{length}\r\n".encode())
                writer.write(b"" if method == "HEAD" else answer)
        writer.close()

    def _answer(self, method: str, path: str, only_new: bool, data: bytes) -> tuple[HTTPStatus, bytes]:
        if method == "PUT":
            if only_new and path in self._kept:
                return HTTPStatus.PRECONDITION_FAILED, b"<Error><Code>PreconditionFailed</Code></Error>"
            self._kept[path] = data
            return HTTPStatus.OK, b""
        if method == "DELETE":
            self._kept.pop(path, None)
            return HTTPStatus.NO_CONTENT, b""
        if "?" in path:
            return HTTPStatus.OK, _EMPTY_LIST
        if path in self._kept:
            return HTTPStatus.OK, self._kept[path]
        return HTTPStatus.NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>"


async def _body(reader: asyncio.StreamReader, length: int) -> bytes:
    if length <= _KEPT_BYTES:
        return await reader.readexactly(length)
    while length:
        piece = await reader.read(length)
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        length -= len(piece)
    return b""


async def _run() -> None:
    server = await asyncio.start_server(_Objects().serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started it holds the other end.
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(_run())


if __name__ == "__main__":
    main()
