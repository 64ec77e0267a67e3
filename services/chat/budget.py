"""How much of a chat is sent again: what a model takes is bounded, and so is what a call may cost.

The oldest images go first, then the oldest turns. The newest of each are what a message speaks of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.chat.models import LeftOut, Turn
from services.history.models import Image

# Below what the smallest context of a model in the catalog holds, 32,768 (gemini-2.5-flash-image), with room for an
# answer.
MAX_TOKENS = 28_000
# An image of 1K or 2K by Google's guide; larger ones that callers send are cut into no more.
IMAGE_TOKENS = 1_120
# English has about four characters a token, Chinese one, in UTF-8 three bytes: this errs on the safe side.
BYTES_A_TOKEN = 3
# Of all images of a call, as they are before base64.
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Slot:
    """The place of an image in a turn: of its `number`-th attachment, or, None, of its answer. `size` in bytes."""

    turn: int
    number: int | None
    size: int


@dataclass(frozen=True)
class Plan:
    """`first`: the oldest turn that is sent; `slots`: the images that are."""

    first: int
    slots: frozenset[Slot]
    left_out: LeftOut


@dataclass(frozen=True)
class Given:
    """What comes with the new message and is sent in any case: its images, their bytes, the text's length in bytes."""

    images: int
    bytes: int
    text_bytes: int


def plan(turns: Sequence[Turn], images: Mapping[str, Image], given: Given, max_images: int) -> Plan:
    slots = _slots(turns, images)
    texts = [_tokens(_text_bytes(turn)) for turn in turns]
    room_for_images = max(0, max_images - given.images)
    room_for_bytes = MAX_BYTES - given.bytes
    room_for_tokens = MAX_TOKENS - _tokens(given.text_bytes) - given.images * IMAGE_TOKENS

    sent, first = list(slots), 0
    while sent and (
        len(sent) > room_for_images
        or sum(slot.size for slot in sent) > room_for_bytes
        or sum(texts) + len(sent) * IMAGE_TOKENS > room_for_tokens
    ):
        sent.pop(0)
    while first < len(turns) and sum(texts[first:]) + len(sent) * IMAGE_TOKENS > room_for_tokens:
        first += 1
    gone = sum(turn.image_id not in images for turn in turns)
    return Plan(first, frozenset(sent), LeftOut(len(slots) - len(sent), first, gone))


def _slots(turns: Sequence[Turn], images: Mapping[str, Image]) -> list[Slot]:
    """The oldest first."""
    found = []
    for index, turn in enumerate(turns):
        found += [Slot(index, number, kept.size) for number, kept in enumerate(turn.attachments)]
        if turn.image_id in images:
            found.append(Slot(index, None, images[turn.image_id].size))
    return found


def _text_bytes(turn: Turn) -> int:
    said = sum(part.text or 0 for part in turn.parts) if turn.parts else len((turn.content or "").encode())
    return len(turn.prompt.encode()) + said


def _tokens(text_bytes: int) -> int:
    return -(-text_bytes // BYTES_A_TOKEN)
