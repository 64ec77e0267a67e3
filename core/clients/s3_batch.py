"""Deleting many objects by one request: what is said to S3, and what its answer means."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from urllib3.exceptions import ProtocolError

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]

UNCONFIRMED = "the bucket does not say that it is gone"


def delete_batch(ask: Ask, bucket: str, keys: Sequence[str]) -> dict[str, str]:
    """Delete up to 1000 objects. Answers those that are not known to be gone, each with the bucket's reason.

    `ask` takes an operation of boto3 and its parameters. Raises what it does, as for an answer that is cut off.
    """
    answer = ask("delete_objects", {"Bucket": bucket, "Delete": {"Objects": [{"Key": key} for key in keys]}})
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
