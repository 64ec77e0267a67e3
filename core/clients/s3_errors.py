"""What can be wrong with a bucket. The texts name operation, bucket and key, and never the account's secret."""

from botocore.exceptions import ClientError
from urllib3.exceptions import ConnectTimeoutError, ProxyError

from core.errors import StorageUnavailable

_PASSING_STATUSES = {408, 429, 500, 502, 503, 504}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "OperationAborted", "ConditionalRequestConflict"}
# After these the bucket may have done what it was asked.
_UNSURE_STATUSES = {500, 502, 504}


class KeyMissing(Exception):
    """There is no object of this key."""


class KeyTaken(Exception):
    """There is one already. `maybe_ours`: an earlier try of the same operation may have put it there."""

    maybe_ours = False


class BucketUnavailable(StorageUnavailable):
    """The bucket fails, refuses, or cannot be reached. `passing`: the same may work in a moment. `maybe_done`: it may
    have done what it was asked. `http_status` and `s3_code` are its own, 0 and empty where there was no answer.
    """

    def __init__(
        self, message: str, *, passing: bool, maybe_done: bool = False, http_status: int = 0, s3_code: str = ""
    ) -> None:
        super().__init__(message)
        self.passing = passing
        self.maybe_done = maybe_done
        self.http_status = http_status
        self.s3_code = s3_code


def explained(what: str, error: Exception) -> KeyMissing | KeyTaken | BucketUnavailable:
    """What an exception of boto3 or of the connection means."""
    if not isinstance(error, ClientError):
        never_sent = isinstance(error, ConnectTimeoutError | ProxyError)
        return BucketUnavailable(
            f"{what}: {type(error).__name__}: {str(error)[:200]}", passing=True, maybe_done=not never_sent
        )
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    # Any other 404 without a body may come from what stands before the bucket, and must not pass for a missing object.
    if code == "NoSuchKey" or (code == "404" and error.operation_name == "HeadObject"):
        return KeyMissing(what)
    if status == 412:
        return KeyTaken(what)
    return BucketUnavailable(
        f"{what}: {status} {code}",
        passing=status in _PASSING_STATUSES or code in _PASSING_CODES,
        maybe_done=status in _UNSURE_STATUSES,
        http_status=status,
        s3_code=code,
    )
