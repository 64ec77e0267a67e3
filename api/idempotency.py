"""The `Idempotency-Key` header: as the IETF draft has it, a quoted string, or bare, as Stripe's clients send it."""

import re
from typing import Annotated

from fastapi import Depends, Header
from pydantic import BaseModel

from core.errors import FieldProblem, ValidationFailed
from services.accounts.models import Caller
from services.idempotency import IdempotencyKey

MAX_CHARACTERS = 255
_SANE = re.compile(rf"[\x21-\x7e]{{1,{MAX_CHARACTERS}}}")

_HEADER = Header(
    alias="Idempotency-Key",
    description="the same key and body within 24 h gives the first answer again; at most 255 visible characters",
    examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
)


async def idempotency_header(header: Annotated[str | None, _HEADER] = None) -> str | None:
    """The key without its quotes. Raises ValidationFailed for one that is empty, too long or no visible ASCII."""
    if header is None:
        return None
    key = header.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if len(key) > MAX_CHARACTERS:
        raise ValidationFailed([FieldProblem("Idempotency-Key", "too_long", limit=MAX_CHARACTERS)])
    if not _SANE.fullmatch(key):
        raise ValidationFailed([FieldProblem("Idempotency-Key", "bad_format")])
    return key


IdempotencyHeader = Annotated[str | None, Depends(idempotency_header)]


def idempotency_of(
    caller: Caller | None, key: str | None, route: str, body: BaseModel | None = None, images: bytes = b""
) -> IdempotencyKey | None:
    """Keys are per caller; for an anonymous one nothing is kept that could be answered again.

    `images`: the digest of those that came beside the body.
    """
    if key is None:
        return None
    if caller is None:
        raise ValidationFailed([FieldProblem("Idempotency-Key", "needs_account")])
    asked = "" if body is None else body.model_dump_json()
    return IdempotencyKey.of(caller.user_id, key, route, asked.encode() + images)
