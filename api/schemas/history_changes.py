"""What is done to the history: several images at once, marks, the export."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from api.schemas.common import RequestModel, ShortText
from api.schemas.history import HistoryFields

MAX_IDS = 1000

Ids = Annotated[list[ShortText], Field(min_length=1, max_length=MAX_IDS)]


class DeleteRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"ids": ["img_01kga0000000abcdefghjkmnpq"]}})

    ids: Ids


class DeletedRead(BaseModel):
    success: Literal[True] = True
    deleted_count: int
    not_found: list[str] = Field(description="those of the ids that are not the caller's, or not there")


class ClearedRead(BaseModel):
    success: Literal[True] = True
    deleted_count: int


class FavoriteRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"example": {"is_favorite": True}})

    is_favorite: bool


class ExportRequest(HistoryFields):
    """Either ids or the fields of a filter; without any, everything."""

    model_config = ConfigDict(json_schema_extra={"example": {"mode": "basic", "date_from": "2026-01-01"}})

    ids: Ids | None = None

    @field_validator("ids")
    @classmethod
    def _no_filter_beside(cls, ids: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if ids is not None and any(info.data.values()):
            raise PydanticCustomError("exclusive", "a filter stands beside them")
        return ids
