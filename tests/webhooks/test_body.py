"""A body stays under 20 KB, and says so when something is missing."""

import json
from typing import Any

import pytest

from services.webhooks.body import MAX_BODY_BYTES, render
from services.webhooks.models import WebhookMessage
from tests.webhooks.receiving import LINK, message, whole_result


def rendered(told: WebhookMessage) -> dict[str, Any]:
    body = render(told, 1_790_000_000_000, "nonce")
    assert len(body) < MAX_BODY_BYTES
    fields: dict[str, Any] = json.loads(body)
    assert (fields["job_id"], fields["client_job_id"], fields["nonce"]) == ("task_01", "mine-7", "nonce")
    return fields


def test_what_fits_is_whole() -> None:
    result = whole_result(20, "x" * 400)
    assert rendered(message(result))["result"] == result


def test_long_texts_go_first() -> None:
    result = rendered(message(whole_result(10, "长" * 5000)))["result"]
    assert result["truncated"] is True
    assert [entry["text_response"] for entry in result["results"]] == ["长" * 300 + "…"] * 10
    assert [entry["image_url"] for entry in result["results"]] == [LINK] * 10


def test_the_last_results_go_next_and_no_more_than_must() -> None:
    whole: dict[str, Any] = whole_result(1000)
    result = rendered(message(whole))["result"]
    assert (result["truncated"], result["total"], result["completed"]) == (True, 1000, 1000)
    kept = len(result["results"])
    assert 30 < kept < 60
    assert result["results"] == whole["results"][:kept]
    entry = len(json.dumps(whole["results"][0]))
    assert len(render(message(whole), 0, "nonce")) > MAX_BODY_BYTES - 2 * entry


@pytest.mark.parametrize(
    "result", [{"a": LINK * 60}, {"results": [], "b": LINK * 60}, {"results": "x", "b": LINK * 60}]
)
def test_what_cannot_be_made_smaller_goes_as_a_whole(result: dict[str, Any]) -> None:
    assert rendered(message(result))["result"] == {"truncated": True}


def test_a_long_error_keeps_its_code() -> None:
    details = {f"field {index}": "y" * 290 for index in range(100)}
    fields = rendered(message(error={"code": "NO_IMAGE", "message": "z" * 30_000, "details": details}, status="failed"))
    assert fields["error"] == {"code": "NO_IMAGE", "message": "z" * 300 + "…"}
    assert fields["result"] == {"truncated": True}
