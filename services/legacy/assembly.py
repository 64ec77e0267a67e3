"""What a move needs, built from what the service has; the API and the worker load none of it."""

from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from pathlib import Path

from core.failpoints import FailPoints
from core.settings import SettingsError
from services.accounts.owners import OwnerRegistry
from services.container import Container
from services.legacy.documents import DocumentMover
from services.legacy.export import LegacyExport, Put
from services.legacy.favorites import FavoriteMover
from services.legacy.histories import HistoryMover
from services.legacy.images import ImageMover, Source
from services.legacy.service import Importer
from services.reindex.entering import Entering
from services.storage.base import Reader
from services.storage.local import LocalStorage
from services.storage.opening import open_other_bucket
from services.storage.threads import on_disk

FILE_THREADS = 4
BUCKET = "s3://"


@dataclass(frozen=True)
class MoveOrder:
    """`source`: `s3://` and the name of a bucket, or a folder. `zone`: where the old app ran. `shared_to`: the GitHub
    login, or the number, of whose account gets the history of no user; None: it is left.
    """

    source: str
    zone: tzinfo
    shared_to: str | None


@asynccontextmanager
async def open_importer(container: Container, order: MoveOrder) -> AsyncIterator[Importer]:
    """Raises SettingsError for a source that cannot be, and for an account that is not known."""
    async with AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="moving"))
        storage = container.storage
        owners = OwnerRegistry(container.database)
        shared_to = None if order.shared_to is None else await _shared_to(owners, order.shared_to)
        reader = _open(container, order.source, threads, stack)
        source = Source(reader, reader is storage, order.zone)
        fail_points = FailPoints(container.settings.debugging.fail_point)
        entering = Entering(storage, container.history, container.quota, container.tasks, owners, fail_points)
        mover = ImageMover(source, storage, container.spool, threads, fail_points)
        yield Importer(
            source,
            HistoryMover(source, mover, storage, container.history, entering, shared_to),
            DocumentMover(source, storage),
            FavoriteMover(source, owners, container.prompts.service, shared_to),
            container.quota,
            container.reindexer,
        )


@asynccontextmanager
async def open_export(container: Container, target: str, zone: tzinfo) -> AsyncIterator[LegacyExport]:
    """`target`: this service's own bucket as `s3://` and its name, or a folder. Raises SettingsError for another."""
    with ThreadPoolExecutor(1, thread_name_prefix="moving") as threads:
        yield LegacyExport(container.directory, container.history, _target(container, target, threads), zone)


def _open(container: Container, source: str, threads: Executor, stack: AsyncExitStack) -> Reader:
    """The service's own storage as it is, when it is meant."""
    settings = container.settings.storage
    if source.startswith(BUCKET):
        bucket = source.removeprefix(BUCKET).strip("/")
        ours = {settings.r2_bucket_name, settings.r2_private_bucket_name} if settings.r2_enabled else set[str]()
        return container.storage if bucket in ours else open_other_bucket(settings, bucket, stack)
    folder = Path(source)
    if not folder.is_dir():
        raise SettingsError([f"SOURCE: {source} is no folder"])
    if not settings.r2_enabled and folder.resolve() == (settings.data_dir / "storage").resolve():
        return container.storage
    return LocalStorage(folder, container.spool, threads)


def _target(container: Container, target: str, threads: Executor) -> Put:
    settings = container.settings.storage
    if not target.startswith(BUCKET):
        return partial(_write_below, Path(target), threads)
    if not settings.r2_enabled or target.removeprefix(BUCKET).strip("/") != settings.r2_bucket_name:
        raise SettingsError([f"--export-legacy: {target} is not this service's bucket; write into a folder"])
    if settings.r2_public_url:
        raise SettingsError(["--export-legacy: everybody can read the bucket, and the lists have prompts in them"])
    return partial(container.storage.put, content_type="application/json")


async def _write_below(folder: Path, threads: Executor, key: str, data: bytes) -> None:
    await on_disk(threads, lambda: _write(folder / key, data))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(data)
    draft.replace(path)


async def _shared_to(owners: OwnerRegistry, github: str) -> str:
    folder_id = await owners.folder_of(github)
    if folder_id is None:
        raise SettingsError(
            [f"--shared-to: nobody has signed in as {github} yet, or two have; give the number of the GitHub account"]
        )
    return folder_id
