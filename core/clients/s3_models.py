"""What goes into an S3 client and comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from core.clock import Milliseconds


@dataclass(frozen=True)
class S3Access:
    endpoint_url: str
    access_key_id: SecretStr
    secret_access_key: SecretStr


@dataclass(frozen=True)
class S3Object:
    """`size` in bytes; `metadata` by the names that the bucket gives, empty in a list."""

    key: str
    size: int
    modified_at: Milliseconds
    etag: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class PutOptions:
    """`only_new`: refused as KeyTaken when there is an object of this key, by servers that know If-None-Match."""

    content_type: str
    cache_control: str | None = None
    metadata: Mapping[str, str] | None = None
    only_new: bool = False

    def parameters(self) -> dict[str, Any]:
        optional = {
            "CacheControl": self.cache_control,
            "Metadata": self.metadata,
            "IfNoneMatch": "*" if self.only_new else None,
        }
        return {"ContentType": self.content_type} | {
            name: value for name, value in optional.items() if value is not None
        }
