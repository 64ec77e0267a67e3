"""Which storage an installation has: local files, a bucket, or a bucket with local copies in front."""

import importlib
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType

from core.security import KeyRing
from core.setting_groups import StorageSettings
from core.settings import SettingsError
from services.storage.base import Reader, Storage
from services.storage.copies import CopyingStorage
from services.storage.local import LocalStorage
from services.storage.spool import Spool


def copies_folder(settings: StorageSettings) -> Path:
    """Apart from the folder of an installation without a bucket, whose images are no copies."""
    return settings.data_dir / "copies"


def open_storage(
    settings: StorageSettings, keys: KeyRing, spool: Spool, files: Executor, stack: AsyncExitStack
) -> Storage:
    """Raises SettingsError. `stack` closes what is opened here."""
    if not settings.r2_enabled:
        return LocalStorage(settings.data_dir / "storage", spool, files)
    client = _bucket().open_client(settings)
    stack.push_async_callback(client.close)
    storage: Storage = _bucket().open_storage(client, settings, keys)
    if settings.local_retention_days == 0:
        return storage
    return CopyingStorage(storage, LocalStorage(copies_folder(settings), spool, files), spool)


def open_other_bucket(settings: StorageSettings, name: str, stack: AsyncExitStack) -> Reader:
    """A bucket that is not ours, by the same endpoint and keys, only to be read. Raises SettingsError."""
    if not settings.r2_endpoint or settings.r2_access_key_id is None or settings.r2_secret_access_key is None:
        needed = "R2_ACCOUNT_ID or R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY"
        raise SettingsError([f"{needed}: must be set to read s3://{name}"])
    client = _bucket().open_client(settings)
    stack.push_async_callback(client.close)
    reader: Reader = _bucket().open_reader(client, name)
    return reader


async def prove_bucket(settings: StorageSettings, keys: KeyRing) -> None:
    """At the start of a process with R2_ENABLED. Raises SettingsError for a bucket that would never take an image."""
    await _bucket().prove(settings, keys)


def _bucket() -> ModuleType:
    # botocore's signer takes 5 MB of each process, which an installation without a bucket need not pay.
    return importlib.import_module("services.storage.bucket")
