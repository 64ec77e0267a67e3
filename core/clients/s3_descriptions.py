"""boto3's descriptions of services, without what is not used here.

boto3 keeps what it has read for as long as its client lives: the endpoints of all services, and the documentation of a
hundred operations of S3. They are 11 MB of each process, of which 3 MB are needed.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

SERVICE = "s3"
OPERATIONS = frozenset(
    {"PutObject", "GetObject", "HeadObject", "HeadBucket", "DeleteObject", "DeleteObjects", "ListObjectsV2"}
)
_READERS: dict[str, Callable[[Path], bytes]] = {
    ".json": Path.read_bytes,
    ".json.gz": lambda path: gzip.decompress(path.read_bytes()),
}


def session_for_s3() -> Session:
    """For boto3's Session, whose client of S3 then knows OPERATIONS alone."""
    session = Session()
    session.register_component("data_loader", Loader(file_loader=_Descriptions()))
    return session


class _Descriptions(JSONFileLoader):
    """What it reads by json into OrderedDicts would be three times as large for a moment. `file_path` has no suffix."""

    def load_file(self, file_path: str) -> Any:
        """None: there is no such file."""
        for suffix, read in _READERS.items():
            path = Path(file_path + suffix)
            if path.is_file():
                return _needed(orjson.loads(read(path)))
        return None


def _needed(description: dict[str, Any]) -> Any:
    """In its place: a copy would leave holes in the memory."""
    if "operations" in description and "shapes" in description:
        for name in description["operations"].keys() - OPERATIONS:
            del description["operations"][name]
    for partition in description.get("partitions", ()):
        services = partition.get("services", {})
        for name in services.keys() - {SERVICE}:
            del services[name]
    _drop_documentation(description)
    return description


def _drop_documentation(value: Any) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("documentation"), str):
            value["documentation"] = ""
        for entry in value.values():
            _drop_documentation(entry)
    elif isinstance(value, list):
        for entry in value:
            _drop_documentation(entry)
