"""What every error looks like (SPEC section 3), held against one answer."""

from typing import Any

import httpx


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the documented shape; answers `error`."""
    assert response.status_code == status, f"{response.status_code} {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"success", "error", "request_id"}
    assert body["success"] is False
    assert body["request_id"] == response.headers["x-request-id"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "type", "details"}
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in response.text
    return error


def fields_of(response: httpx.Response) -> dict[str, dict[str, Any]]:
    """The fields that a 422 names, by name."""
    error = error_of(response, 422, "VALIDATION_ERROR")
    fields: list[dict[str, Any]] = error["details"]["fields"]
    assert fields
    assert all(field["message"] and field["reason"] for field in fields)
    return {field["field"]: field for field in fields}
