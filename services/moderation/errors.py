"""What moderation answers to a caller."""

from core.errors import AppError


class ContentBlocked(AppError):
    """Moderation refused the prompt before anything was spent. `details.reason` names the layer, never the word."""

    code = "CONTENT_BLOCKED"
    status = 400
    type = "safety_blocked"
