"""The bucket of R2_*: opened, and proved at the start."""

import asyncio

from pydantic import SecretStr

from core.clients.s3 import S3Client
from core.clients.s3_errors import BucketUnavailable
from core.clients.s3_models import S3Access
from core.logging import get_logger
from core.security import KeyRing
from core.setting_groups import StorageSettings
from core.settings import SettingsError
from services.storage.base import Reader
from services.storage.owner import BucketOwner, ForeignBucket, installation_ids
from services.storage.s3 import Buckets, S3Storage

PROOF_SECONDS = 15
_BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "Unauthorized"}

log = get_logger(__name__)


def open_client(settings: StorageSettings) -> S3Client:
    """Raises SettingsError for an endpoint that is no address."""
    access = S3Access(
        settings.r2_endpoint,
        settings.r2_access_key_id or SecretStr(""),
        settings.r2_secret_access_key or SecretStr(""),
    )
    try:
        return S3Client(access)
    except ValueError as error:
        raise SettingsError([f"R2_ENDPOINT_URL: {error}"]) from error


def open_storage(client: S3Client, settings: StorageSettings, keys: KeyRing) -> S3Storage:
    buckets = _buckets(settings)
    return S3Storage(client, buckets, BucketOwner(client, buckets.others, installation_ids(keys)))


def open_reader(client: S3Client, name: str) -> Reader:
    """A bucket of whomever; nothing claims it, since nothing is written to it."""
    return S3Storage(client, Buckets(name, name), BucketOwner(client, name, ()))


async def prove(settings: StorageSettings, keys: KeyRing) -> None:
    """Raises SettingsError for wrong credentials, a bucket that is missing, and one that is another installation's.

    A bucket that is merely away is for the health report to tell, and for each call to fail on.
    """
    client = open_client(settings)
    try:
        async with asyncio.timeout(PROOF_SECONDS):
            await open_storage(client, settings, keys).check()
    except TimeoutError:
        log.warning("bucket is away", reason=f"no answer within {PROOF_SECONDS} s")
    except ForeignBucket as error:
        raise SettingsError([f"R2_BUCKET_NAME: {error}"]) from error
    except BucketUnavailable as error:
        if not error.passing:
            raise SettingsError([_named(error, settings)]) from error
        log.warning("bucket is away", reason=str(error))
    finally:
        await client.close()


def _buckets(settings: StorageSettings) -> Buckets:
    return Buckets(settings.r2_bucket_name, settings.r2_private_bucket_name or settings.r2_bucket_name)


def _named(error: BucketUnavailable, settings: StorageSettings) -> str:
    """The setting that is wrong, and why; never a secret."""
    answer, endpoint = f"{error.http_status} {error.s3_code}", settings.r2_endpoint
    if error.s3_code in _BAD_KEYS or error.http_status == 401:
        return f"R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY: {endpoint} does not accept them ({answer})"
    if error.http_status == 403:
        return f"R2_ACCESS_KEY_ID: may not read, write and list at {endpoint} ({error})"
    if error.s3_code == "NoSuchBucket":
        return f"R2_BUCKET_NAME, R2_PRIVATE_BUCKET_NAME: no such bucket at {endpoint} ({error})"
    return f"R2_ENDPOINT_URL: {endpoint} is no S3 that we can use ({error})"
