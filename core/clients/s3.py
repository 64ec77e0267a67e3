"""An S3 client for the event loop: boto3 in threads of its own, with a limit to how long an operation may take.

What the bucket answers becomes one of three exceptions: KeyMissing, KeyTaken, and BucketUnavailable for all that is
broken (core/clients/s3_errors.py).
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.response import StreamingBody
from urllib3.exceptions import HTTPError, ProtocolError

from core.clients.s3_batch import check_by_md5, delete_batch
from core.clients.s3_descriptions import session_for_s3
from core.clients.s3_errors import BucketUnavailable, KeyMissing, KeyTaken, explained
from core.clients.s3_models import PutOptions, S3Access, S3Object
from core.clients.s3_put import Elsewhere, Putter
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

_CONFIG = Config(
    signature_version="s3v4",
    # Checksums over what TLS protects anyway are more than half of a put's processor time.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    s3={"addressing_style": "path", "payload_signing_enabled": False},
    # The retries are ours, so that a pause holds no thread and all tries together have their limit.
    retries={"mode": "standard", "total_max_attempts": 1},
    parameter_validation=False,
)


class S3Client:
    """Raises ValueError or BotoCoreError for an endpoint that is no address."""

    def __init__(self, access: S3Access) -> None:
        self._transport = Transport(
            access.endpoint_url, connections=THREADS, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS
        )
        region = _region(access.endpoint_url)
        self._s3 = Session(botocore_session=session_for_s3()).client(
            "s3",
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key_id.get_secret_value(),
            aws_secret_access_key=access.secret_access_key.get_secret_value(),
            region_name=region,
            config=_CONFIG,
        )
        self._putter: Putter | None = Putter(access, region, _CONFIG, self._transport)
        self._s3.meta.events.register("before-send.s3", self._transport.send)  # type: ignore[arg-type]
        check_by_md5(self._s3)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._transport.close()

    async def put(self, bucket: str, key: str, data: bytes, options: PutOptions) -> None:
        """Raises KeyTaken or BucketUnavailable, as all of these do."""
        await self._attempts(f"put {bucket}/{key}", SMALL_SECONDS, partial(self._put, bucket, key, data, options))

    async def put_file(self, bucket: str, key: str, path: Path, options: PutOptions) -> None:
        """Read the file piece by piece while it is sent; it stays where it is."""

        def upload() -> None:
            with path.open("rb") as file:
                self._put(bucket, key, file, options)

        what = f"put {bucket}/{key}"
        await self._attempts(what, SMALL_SECONDS + _size(what, path) / UPLOAD_BYTES_A_SECOND, upload)

    async def get(self, bucket: str, key: str) -> bytes:
        """The whole object. Raises KeyMissing."""

        def download() -> bytes:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
            _check_whole(answer, "ContentLength", "LastModified")
            with contextlib.closing(answer["Body"]) as body:
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
            answer = self._s3.head_object(Bucket=bucket, Key=key)
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
                f"delete {bucket}/{key}", SMALL_SECONDS, lambda: self._s3.delete_object(Bucket=bucket, Key=key)
            )

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> dict[str, str]:
        """Answers those that the bucket keeps, each with its reason. Objects that are not there are fine."""
        left = dict[str, str]()
        for start in range(0, len(keys), DELETE_PAGE):
            some = keys[start : start + DELETE_PAGE]
            what = f"delete {len(some)} of {bucket}"
            try:
                left |= await self._attempts(what, BATCH_SECONDS, partial(delete_batch, self._s3, bucket, some))
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
        if self._putter is not None:
            try:
                self._putter.put(bucket, key, body, options)
                return
            except Elsewhere:
                if not isinstance(body, bytes):
                    body.seek(0)
        self._s3.put_object(Bucket=bucket, Key=key, Body=body, **options.parameters())
        # It has found the bucket, which will be there the next time as well.
        self._putter = None

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
        page = self._s3.list_objects_v2(**where)
        _check_whole(page, "IsTruncated")
        return page

    async def _open(
        self, what: str, bucket: str, key: str, start: int, end: int | None, etag: str
    ) -> tuple[StreamingBody, Watch, str] | None:
        """The body from `start` on, what ends its connection, the object's tag; None when the object ends before."""
        parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if start or end is not None:
            parameters["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if etag:
            parameters["IfMatch"] = etag

        def open_body() -> tuple[StreamingBody, Watch, str]:
            answer = self._s3.get_object(**parameters)
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
        except (ClientError, BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
            raise explained(what, error) from error


def _region(endpoint: str) -> str:
    found = _REGION.match(urlsplit(endpoint).hostname or "")
    return found[1] if found else "auto"


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
