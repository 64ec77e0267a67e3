"""What boto3 is for: buckets of another region than their address says, and deleting many objects at once."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from boto3.session import Session
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from core.clients.s3_descriptions import session_for_s3
from core.clients.s3_models import S3Access
from core.clients.s3_signed import CONFIG
from core.clients.s3_transport import Transport


class BotoClient:
    def __init__(self, access: S3Access, region: str, transport: Transport) -> None:
        self._s3 = Session(botocore_session=session_for_s3()).client(
            "s3",
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key_id.get_secret_value(),
            aws_secret_access_key=access.secret_access_key.get_secret_value(),
            region_name=region,
            config=CONFIG,
        )
        self._s3.meta.events.register("before-send.s3", transport.send)  # type: ignore[arg-type]
        self._s3.meta.events.register("before-call.s3.DeleteObjects", _add_md5)

    def ask(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises what boto3 and the connection raise."""
        try:
            answer: Mapping[str, Any] = getattr(self._s3, operation)(**parameters)
        except ResponseParserError as error:
            raise ProtocolError(str(error)) from error
        return answer


def _add_md5(params: dict[str, Any], **_: object) -> None:
    """S3 wants a checksum of such a request; the one that boto3 sends by itself since 1.36 is none to MinIO and others
    (s3fs-fuse/s3fs-fuse#2639).
    """
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()
    params["context"].pop("checksum", None)
