"""How a receiver can know that a webhook is ours, and nobody else's later on.

`X-Webhook-Signature` is the hex HMAC-SHA256 of the raw body with the secret's UTF-8 bytes. A secret that starts with
`whsec_` is one of Standard Webhooks as well, whose headers then come beside it.
"""

import base64
import binascii
import hmac

from pydantic import SecretStr

from core.errors import FieldProblem, ValidationFailed

STANDARD_PREFIX = "whsec_"
SHORTEST_SECRET, LONGEST_SECRET = 8, 256
SHORTEST_KEY, LONGEST_KEY = 24, 64  # bytes, after whsec_


def check_secret(secret: SecretStr, field: str) -> None:
    """Raises ValidationFailed, which names `field`, for a secret that nothing can be signed with."""
    problem = _problem(secret.get_secret_value(), field)
    if problem is not None:
        raise ValidationFailed([problem])


def signature_headers(secret: SecretStr, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """`timestamp` of this try, in seconds since 1970. The secret has passed `check_secret`."""
    text = secret.get_secret_value()
    headers = {"x-webhook-signature": hmac.new(text.encode(), body, "sha256").hexdigest()}
    if text.startswith(STANDARD_PREFIX):
        signed = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.digest(_standard_key(text), signed, "sha256")
        headers["webhook-id"] = message_id
        headers["webhook-timestamp"] = str(timestamp)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _problem(secret: str, field: str) -> FieldProblem | None:
    if len(secret) < SHORTEST_SECRET:
        return FieldProblem(field, "too_short", limit=SHORTEST_SECRET)
    if len(secret) > LONGEST_SECRET:
        return FieldProblem(field, "too_long", limit=LONGEST_SECRET)
    try:
        secret.encode()
    except UnicodeEncodeError:
        return FieldProblem(field, "bad_text")
    if not secret.startswith(STANDARD_PREFIX):
        return None
    try:
        key = _standard_key(secret)
    except binascii.Error:
        key = b""
    return None if SHORTEST_KEY <= len(key) <= LONGEST_KEY else FieldProblem(field, "webhook_key")


def _standard_key(secret: str) -> bytes:
    """Padding may be missing, as the libraries of Standard Webhooks let it be. Raises binascii.Error."""
    encoded = secret.removeprefix(STANDARD_PREFIX).encode().rstrip(b"=")
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
