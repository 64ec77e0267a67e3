"""What an answer of `generateContent` says, whatever was asked for.

These raise AttributeError, IndexError, KeyError or TypeError for an answer of another shape than documented.
"""

from collections.abc import Mapping
from typing import Any

from services.moderation.errors import ContentBlocked

BLOCKING_FINISH_REASONS = frozenset(
    {
        "SAFETY",
        "IMAGE_SAFETY",
        "PROHIBITED_CONTENT",
        "IMAGE_PROHIBITED_CONTENT",
        "RECITATION",
        "IMAGE_RECITATION",
        "BLOCKLIST",
        "SPII",
        "MODEL_ARMOR",
    }
)


def candidate_of(answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The first candidate, and the parts of its content; empty where there is none."""
    candidates = answer.get("candidates") or []
    candidate = candidates[0] if candidates else {}
    return candidate, (candidate.get("content") or {}).get("parts") or []


def texts(parts: list[dict[str, Any]], *, thought: bool) -> str | None:
    return "".join(part["text"] for part in parts if "text" in part and bool(part.get("thought")) == thought) or None


def block_of(answer: Mapping[str, Any]) -> ContentBlocked | None:
    """Why the provider's own filter kept the answer back; None: it did not."""
    finish_reason = candidate_of(answer)[0].get("finishReason")
    block_reason = (answer.get("promptFeedback") or {}).get("blockReason")
    if not block_reason and finish_reason not in BLOCKING_FINISH_REASONS:
        return None
    category = str(block_reason or finish_reason)
    return ContentBlocked(f"the provider blocked: {category}", reason="provider", category=category)
