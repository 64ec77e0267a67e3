"""What POST /api/prompts/describe is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from api.dependencies import MakingUser, Services
from api.schemas.prompts import DescribeBody
from api.uploads.receive import receive
from core.errors import AppError
from services.references.models import ReferenceImage
from services.references.uploads import field_of


@dataclass(frozen=True)
class DescribeInput:
    """The image's file belongs to whoever is given this."""

    body: DescribeBody
    image: ReferenceImage


async def describe_input(request: Request, services: Services, caller: MakingUser) -> DescribeInput:
    """Read and check the body, once it is known whose it is."""
    try:
        received = await receive(request, DescribeBody, services.references.uploads())
        (image,) = await services.references.accept(received.paths)
    except AppError as error:
        fields: Any = error.details.get("fields")
        if fields is not None:
            error.details = {**error.details, "fields": [_renamed(field) for field in fields]}
        raise
    return DescribeInput(received.body, image)


def _renamed(field: Mapping[str, Any]) -> dict[str, Any]:
    """The one image has no index here."""
    return {**field, "field": "image" if field["field"] == field_of(0) else field["field"]}


DescribeRequest = Annotated[DescribeInput, Depends(describe_input)]
