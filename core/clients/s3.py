"""An S3 client for the event loop: requests in threads of its own, with a limit to how long an operation may take.

What the bucket answers becomes one of three exceptions: KeyMissing, KeyTaken, and BucketUnavailable for all that is
broken (core/clients/s3_errors.py).
"""

import asyncio
import contextlib
import importlib
import random
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError, ProtocolError

from core.clients.s3_batch import delete_batch
from core.clients.s3_errors import BucketUnavailable, KeyMissing, KeyTaken, explained
from core.clients.s3_models import PutOptions, S3Access, S3Object
from core.clients.s3_signed import Elsewhere, SignedRequests
from core.clients.s3_transport import CURRENT_WATCH, Transport, Watch

Result = TypeVar("Result")

THREADS = 16
CONNECT_SECONDS = 2
# Between two bytes; an operation as a whole has the limits below, the wait for a thread and all tries included.
READ_SECONDS = 5
SMALL_SECONDS = 8
WHOLE_SECONDS = 20
LIST_SECONDS = 20
BATCH_SECONDS = 20
PIECE_SECONDS = 10
UPLOAD_BYTES_A_SECOND = 1024 * 1024
# Before the second try and the third.
PAUSES = (0.2, 0.6)

PIECE_BYTES = 256 * 1024
LIST_PAGE = 1000
DELETE_PAGE = 1000
# Of a server that cannot delete many at once, or that finds a key among them which its XML cannot say.
_NO_BATCHES = {400, 405, 411, 501}

# s3.eu-west-1.amazonaws.com, s3.us-west-004.backblazeb2.com; most others take any region.
_REGION = re.compile(r"s3[.-]([a-z]+-[a-z0-9-]+)\.")


class S3Client:
    """Raises ValueError for an endpoint that is no address."""

    def __init__(self, access: S3Access) -> None:
        address = urlsplit(access.endpoint_url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError(f"Invalid endpoint: {access.endpoint_url}")
        self._transport = Transport(
            access.endpoint_url, connections=THREADS, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS
        )
        region = _region(address.hostname)
        self._signed: SignedRequests | None = SignedRequests(access, region, self._transport)
        self._boto = _Boto(access, region, self._transport)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._transport.close()

    async def put(self, bucket: str, key: str, data: bytes, options: PutOptions) -> None:
        """Raises KeyTaken or BucketUnavailable, as all of these do."""
        await self._attempts(f"put {bucket}/{key}", SMALL_SECONDS, partial(self._put, bucket, key, data, options))

    async def put_file(self, bucket: str, key: str, path: Path, options: PutOptions) -> None:
        """Read the file piece by piece while it is sent. It is gone once the bucket has it."""

        def upload() -> None:
            with path.open("rb") as file:
                self._put(bucket, key, file, options)
            path.unlink()

        what = f"put {bucket}/{key}"
        await self._attempts(what, SMALL_SECONDS + _size(what, path) / UPLOAD_BYTES_A_SECOND, upload)

    async def get(self, bucket: str, key: str) -> bytes:
        """The whole object. Raises KeyMissing."""

        def download() -> bytes:
            answer = self._ask("get_object", {"Bucket": bucket, "Key": key})
            _check_whole(answer, "ContentLength", "LastModified")
            body: IO[bytes] = answer["Body"]
            with contextlib.closing(body):
                return body.read()

        return await self._attempts(f"get {bucket}/{key}", WHOLE_SECONDS, download)

    async def stream(self, bucket: str, key: str, start: int, length: int | None) -> AsyncGenerator[bytes, None]:
        """`length` bytes from `start` in pieces, fewer where the object ends; no piece may take longer than 10 s.

        A connection that breaks after a piece is replaced, if the object is still the same. Raises KeyMissing.
        """
        what, end, etag = f"get {bucket}/{key}", None if length is None else start + length, ""
        while end is None or start < end:
            opened = await self._open(what, bucket, key, start, end, etag)
            if opened is None:
                return
            body, watch, etag = opened
            begun_at = start
            try:
                while piece := await self._in_thread(what, watch, PIECE_SECONDS, partial(body.read, PIECE_BYTES)):
                    start += len(piece)
                    yield piece
                return
            except BucketUnavailable as error:
                if start == begun_at or not error.passing:
                    raise
            finally:
                # In a thread, since another may still be about to wake up from reading it.
                with contextlib.suppress(RuntimeError):  # the threads are gone: the process ends
                    self._threads.submit(body.close)

    async def head(self, bucket: str, key: str) -> S3Object:
        """Raises KeyMissing."""

        def look() -> Any:
            answer = self._ask("head_object", {"Bucket": bucket, "Key": key})
            _check_whole(answer, "ContentLength", "LastModified")
            return answer

        try:
            answer = await self._attempts(f"head {bucket}/{key}", SMALL_SECONDS, look)
        except KeyMissing:
            # The answer to a HEAD has no body, which would tell a key that is missing from a bucket that is.
            await self.probe(bucket)
            raise
        modified = round(answer["LastModified"].timestamp() * 1000)
        return S3Object(key, answer["ContentLength"], modified, answer.get("ETag", ""), answer.get("Metadata", {}))

    async def delete(self, bucket: str, key: str) -> None:
        """An object that is not there is fine."""
        with contextlib.suppress(KeyMissing):
            await self._attempts(
                f"delete {bucket}/{key}",
                SMALL_SECONDS,
                partial(self._ask, "delete_object", {"Bucket": bucket, "Key": key}),
            )

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> dict[str, str]:
        """Answers those that the bucket keeps, each with its reason. Objects that are not there are fine."""
        left = dict[str, str]()
        for start in range(0, len(keys), DELETE_PAGE):
            some = keys[start : start + DELETE_PAGE]
            what = f"delete {len(some)} of {bucket}"
            try:
                left |= await self._attempts(what, BATCH_SECONDS, partial(delete_batch, self._boto.ask, bucket, some))
            except BucketUnavailable as error:
                if error.http_status not in _NO_BATCHES:
                    raise
                left |= await self._delete_each(bucket, some)
        return left

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[S3Object]:
        """In the order of the keys' UTF-8 bytes."""
        where: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": LIST_PAGE}
        while True:
            page = await self._attempts(f"list {bucket}/{prefix}", LIST_SECONDS, partial(self._page, where))
            for entry in page.get("Contents", ()):
                modified = round(entry["LastModified"].timestamp() * 1000)
                yield S3Object(entry["Key"], entry["Size"], modified, entry.get("ETag", ""), {})
            if not page["IsTruncated"]:
                return
            where["ContinuationToken"] = page["NextContinuationToken"]

    async def probe(self, bucket: str) -> None:
        """Raises BucketUnavailable unless it is there and lets us in."""
        # Not a HEAD of the bucket: its answer does not say what is wrong, and not every token of an account may ask.
        await self._attempts(f"probe {bucket}", SMALL_SECONDS, partial(self._page, {"Bucket": bucket, "MaxKeys": 1}))

    def _put(self, bucket: str, key: str, body: bytes | IO[bytes], options: PutOptions) -> None:
        self._ask("put_object", {"Bucket": bucket, "Key": key, "Body": body} | options.parameters())

    def _ask(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """An operation of boto3 with its parameters, in a thread."""
        if self._signed is not None:
            try:
                return self._signed.ask(operation, parameters)
            except Elsewhere:
                body = parameters.get("Body", b"")
                if not isinstance(body, bytes):
                    body.seek(0)
        answer = self._boto.ask(operation, parameters)
        # It has found the bucket, which will be there the next time as well.
        self._signed = None
        return answer

    async def _delete_each(self, bucket: str, keys: Sequence[str]) -> dict[str, str]:
        left = dict[str, str]()

        async def delete(key: str) -> None:
            try:
                await self.delete(bucket, key)
            except BucketUnavailable as error:
                if error.passing:
                    raise
                left[key] = str(error)

        for start in range(0, len(keys), THREADS):
            await asyncio.gather(*map(delete, keys[start : start + THREADS]))
        return left

    def _page(self, where: Mapping[str, Any]) -> Any:
        page = self._ask("list_objects_v2", where)
        _check_whole(page, "IsTruncated")
        return page

    async def _open(
        self, what: str, bucket: str, key: str, start: int, end: int | None, etag: str
    ) -> tuple[IO[bytes], Watch, str] | None:
        """The body from `start` on, what ends its connection, the object's tag; None when the object ends before."""
        parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if start or end is not None:
            parameters["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if etag:
            parameters["IfMatch"] = etag

        def open_body() -> tuple[IO[bytes], Watch, str]:
            answer = self._ask("get_object", parameters)
            _check_whole(answer, "ContentLength", "LastModified")
            return answer["Body"], CURRENT_WATCH.get(), answer.get("ETag", "")

        try:
            return await self._attempts(what, SMALL_SECONDS, open_body)
        except KeyTaken as error:
            raise BucketUnavailable(f"{what}: changed while it was read", passing=False) from error
        except BucketUnavailable as error:
            if error.s3_code == "InvalidRange":
                return None
            raise

    async def _attempts(self, what: str, seconds: float, work: Callable[[], Result]) -> Result:
        """Do `work` in a thread, again while the bucket says that it may work in a moment; `seconds` for all of it."""
        loop = asyncio.get_running_loop()
        deadline, unsure = loop.time() + seconds, False
        pauses = iter(PAUSES)
        while True:
            try:
                return await self._in_thread(what, Watch(), deadline - loop.time(), work)
            except KeyTaken as error:
                error.maybe_ours = unsure
                raise
            except BucketUnavailable as error:
                unsure = error.maybe_done = error.maybe_done or unsure
                pause = next(pauses, None)
                if pause is None or not error.passing or loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _in_thread(self, what: str, watch: Watch, seconds: float, work: Callable[[], Result]) -> Result:
        def watched() -> Result:
            CURRENT_WATCH.set(watch)
            return work()

        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, watched)
        except asyncio.CancelledError:
            watch.abort()
            raise
        except TimeoutError as error:
            watch.abort()
            raise BucketUnavailable(f"{what}: took too long", passing=True, maybe_done=True) from error
        except (ClientError, BotoCoreError, HTTPError, OSError) as error:
            raise explained(what, error) from error


def _region(host: str) -> str:
    found = _REGION.match(host)
    return found[1] if found else "auto"


class _Boto:
    """boto3, loaded when it is needed: by most processes never."""

    def __init__(self, access: S3Access, region: str, transport: Transport) -> None:
        self._arguments = access, region, transport
        self._lock = threading.Lock()
        self._client: Any = None

    def ask(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            if self._client is None:
                self._client = importlib.import_module("core.clients.s3_boto").BotoClient(*self._arguments)
        answer: Mapping[str, Any] = self._client.ask(operation, parameters)
        return answer


def _check_whole(answer: Mapping[str, Any], *names: str) -> None:
    """An answer that was cut off inside its head looks like one with fewer headers and no body."""
    if any(name not in answer for name in names):
        raise ProtocolError("the answer's head is cut off")


def _size(what: str, path: Path) -> int:
    """On the loop: a hop to a thread and back would cost more than this look at a file that was just written."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise explained(what, error) from error
