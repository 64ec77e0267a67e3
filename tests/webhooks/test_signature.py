"""Which secrets something can be signed with."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from core.clock import now_ms
from core.errors import ValidationFailed
from services.webhooks.signature import check_secret, signature_headers


def standard(length: int) -> str:
    return "whsec_" + base64.b64encode(bytes(range(length))).decode()


@pytest.mark.parametrize(
    ("secret", "reason", "limit"),
    [
        ("", "too_short", 8), ("1234567", "too_short", 8), ("x" * 257, "too_long", 256),
        ("x" * 10_240, "too_long", 256),
        ("abc\udcff12345", "bad_text", None), ("whsec_", "too_short", 8), ("whsec_ab", "webhook_key", None),
        (standard(23), "webhook_key", None), (standard(65), "webhook_key", None),
        ("whsec_" + "-_" * 20, "webhook_key", None), ("whsec_" + "é" * 40, "webhook_key", None),
        (standard(32)[:-3], "webhook_key", None), (standard(24) + " ", "webhook_key", None),
    ],
)  # fmt: skip
def test_a_secret_that_is_refused_is_told_why(secret: str, reason: str, limit: int | None) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_secret(SecretStr(secret), "webhook_secret")
    fields: Any = caught.value.details["fields"]
    (problem,) = fields
    assert (problem["field"], problem["reason"], problem.get("limit")) == ("webhook_secret", reason, limit)
    assert secret == "" or secret not in str(caught.value)


@pytest.mark.parametrize("secret", ["12345678", "密" * 256, "x" * 256, "WHSEC_ab", "my whsec_ key"])
def test_any_other_text_is_a_secret(secret: str) -> None:
    check_secret(SecretStr(secret), "webhook_secret")


@pytest.mark.parametrize("secret", [standard(24), standard(25), standard(32), standard(32).rstrip("="), standard(64)])
def test_a_standard_secret_signs_what_the_library_verifies(secret: str) -> None:
    check_secret(SecretStr(secret), "webhook_secret")
    body = '{"a": "å"}'.encode()
    headers = signature_headers(SecretStr(secret), "msg_1", now_ms() // 1000, body)
    Webhook(secret).verify(body, headers)
