"""Deleting many objects by one request: what is said to S3, and what its answer means."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from urllib3.exceptions import ProtocolError

UNCONFIRMED = "the bucket does not say that it is gone"


def check_by_md5(s3: Any) -> None:
    """Let a boto3 client send the one checksum of such a request that all servers know.

    S3 wants one; the one that boto3 sends by itself since 1.36 is none to MinIO and others (s3fs-fuse/s3fs-fuse#2639).
    """
    s3.meta.events.register("before-call.s3.DeleteObjects", _add_md5)


def delete_batch(s3: Any, bucket: str, keys: Sequence[str]) -> dict[str, str]:
    """Delete up to 1000 objects. Answers those that are not known to be gone, each with the bucket's reason.

    Raises what boto3 and the connection raise, as for an answer that is cut off.
    """
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    if "Deleted" not in answer and "Errors" not in answer:
        raise ProtocolError("the answer names no object")
    left = dict.fromkeys(keys, UNCONFIRMED)
    for entry in answer.get("Deleted", ()):
        left.pop(entry["Key"], None)
    for entry in answer.get("Errors", ()):
        if entry.get("Code") == "NoSuchKey":
            left.pop(entry["Key"], None)
        elif entry.get("Key") in left:
            left[entry["Key"]] = f"{entry.get('Code')}: {entry.get('Message')}"
    return left


def _add_md5(params: dict[str, Any], **_: object) -> None:
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()
    params["context"].pop("checksum", None)
