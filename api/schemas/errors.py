"""The one shape of errors."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ErrorBody(BaseModel):
    code: str = Field(description="for programs", examples=["VALIDATION_ERROR"])
    message: str = Field(description="for people, in the language of Accept-Language")
    type: str = Field(description="i18n key: errors.api.{type}", examples=["validation"])
    details: dict[str, Any] = Field(
        description="what to change: the field, the limit, the allowed values, seconds to wait"
    )


class ErrorResponse(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "success": False,
                "error": {
                    "code": "VALIDATION_ERROR",
                    "message": "Some fields are missing or wrong; see details.fields.",
                    "type": "validation",
                    "details": {"fields": [{"field": "prompt", "reason": "missing", "message": "is required"}]},
                },
                "request_id": "req_01k0000000abcdefghjkmnpqrs",
            }
        }
    )

    success: Literal[False] = False
    error: ErrorBody
    request_id: str
