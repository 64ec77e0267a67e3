"""What can be wrong with an image that a caller gives. `details.fields` names each by its index, from 0."""

from collections.abc import Sequence

from core.errors import AppError, FieldProblem, PayloadTooLarge


class UnsupportedImage(AppError):
    """Not an image that we take, or one that is damaged, cut off, or too large once it is decoded."""

    code = "UNSUPPORTED_IMAGE"
    status = 400
    type = "unsupported_image"

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        fields = [problem.as_details() for problem in problems]
        super().__init__(f"images: {fields}", fields=fields)


class ImageTooLarge(PayloadTooLarge):
    """One image is over MAX_IMAGE_BYTES."""

    def __init__(self, field: str, limit: int) -> None:
        super().__init__(limit)
        self.details = {**self.details, "fields": [FieldProblem(field, "image_bytes", limit=limit).as_details()]}
