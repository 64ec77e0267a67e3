"""What prompts answer to a caller."""

from core.errors import AppError


class TooManyPrompts(AppError):
    """Nobody keeps more prompts of their own than `limit`."""

    code = "TOO_MANY_PROMPTS"
    status = 409
    type = "too_many_prompts"

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)
