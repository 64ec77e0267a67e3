"""Which storage an installation has: local files, a bucket, or a bucket with local copies in front."""

import importlib
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType

from core.security import KeyRing
from core.setting_groups import StorageSettings
from services.storage.base import Storage
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


async def prove_bucket(settings: StorageSettings, keys: KeyRing) -> None:
    """At the start of a process with R2_ENABLED. Raises SettingsError for a bucket that would never take an image."""
    await _bucket().prove(settings, keys)


def _bucket() -> ModuleType:
    # botocore's signer takes 5 MB of each process, which an installation without a bucket need not pay.
    return importlib.import_module("services.storage.bucket")
