"""Bodies with images: JSON or multipart, read as they arrive and checked before anything else is done with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api.errors import is_json
from api.schemas.common import WithUploads
from api.uploads.form_reader import FormReader, boundary_of
from api.uploads.json_reader import JsonReader
from api.uploads.text_image import TextImage
from core.errors import FieldProblem, ValidationFailed
from services.generation.errors import ClientGone
from services.references.uploads import Uploads

FORM = "multipart/form-data"
Body = TypeVar("Body", bound=WithUploads)


@dataclass(frozen=True)
class Received(Generic[Body]):
    """A valid body, and the files of its images in their order, which belong to whoever receives this."""

    body: Body
    paths: list[Path]


async def receive(request: Request, model: type[Body], uploads: Uploads) -> Received[Body]:
    """Raises ValidationFailed, PayloadTooLarge or ImageTooLarge; nothing is left of the body then."""
    try:
        body = await _read(request, model, uploads)
        return Received(body, await uploads.finish(list(_order(body, uploads))))
    except ClientDisconnect as error:
        uploads.discard()
        raise ClientGone from error
    except BaseException:
        uploads.discard()
        raise


async def _read(request: Request, model: type[Body], uploads: Uploads) -> Body:
    content_type = request.headers.get("content-type", "")
    is_form = content_type.partition(";")[0].strip().lower() == FORM
    if not is_form and not is_json(request):
        raise ValidationFailed([FieldProblem("body", "content_type", hint=f"application/json, {FORM}")])
    single = "image" in model.model_fields
    reader = (
        FormReader(uploads, boundary_of(content_type), single=single) if is_form else JsonReader(uploads, single=single)
    )
    async for chunk in request.stream():
        reader.feed(chunk)
        await uploads.settle()
    try:
        # A form has nothing but texts: there "true" is true.
        return model.model_validate(reader.finish(), strict=not is_form)
    except ValidationError as error:
        entries = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**entry, "loc": ("body", *entry["loc"])} for entry in entries]) from error


def _order(body: WithUploads, uploads: Uploads) -> Iterator[int]:
    """The images by the places that they have in the body."""
    for text in body.uploads:
        index = uploads.index_of(text)
        if index is None:
            # The field's name was spelled in a way that the reader does not look for, so the text is still here.
            image = TextImage(uploads)
            image.feed(text.encode())
            image.end()
            index = image.index
        yield index
