"""What is written beside an object is read again, in whatever spelling a server hands it out; and the old app's."""

from collections.abc import Callable

import pytest

from services.history.models import Image
from services.history.object_metadata import ObjectMetadata, object_metadata, read_object_metadata
from tests.history.shelf import milliseconds

IMAGE = Image(
    id="img_01jd0000000000000000000000", user_id="usr_a", folder_id="0123456789abcdef", key="users/a/b.png",
    mode="chat", prompt="可爱的猫 & 100 %\n", aspect_ratio="21:9", resolution="2K", provider="gemini",
    model="gemini-3-pro-image", duration=12.345, created_at=milliseconds("2026-11-25T10:11:12.345+00:00"), width=1,
    height=1, size=1, mime_type="image/png", call_id="call_a", session_id="chat_a", chat_index=3,
)  # fmt: skip
WHOLE = ObjectMetadata(
    prompt=IMAGE.prompt, mode="chat", duration=12.345, aspect_ratio="21:9", resolution="2K",
    created_at=IMAGE.created_at, session_id="chat_a", chat_index=3, image_id=IMAGE.id, provider="gemini",
    model="gemini-3-pro-image",
)  # fmt: skip


@pytest.mark.parametrize("spelled", [str, str.upper, str.title, lambda name: name.replace("-", "_")])
def test_what_was_written_is_read_again_however_its_names_are_spelled(spelled: Callable[[str], str]) -> None:
    written = object_metadata(IMAGE)
    assert all(value.isascii() for value in written.values())
    assert read_object_metadata({spelled(name): value for name, value in written.items()}) == WHOLE


def test_what_the_old_app_wrote_is_read() -> None:
    old = {
        "prompt": "a%20cat%2C%20%E5%8F%AF%E7%88%B1", "mode": "basic", "duration": "7.5", "aspect_ratio": "16:9",
        "resolution": "1K", "created_at": "2025-01-02T10:11:12.345678", "session_id": "ab12", "chat_index": "0",
    }  # fmt: skip
    assert read_object_metadata(old) == ObjectMetadata(
        prompt="a cat, 可爱", mode="basic", duration=7.5, aspect_ratio="16:9", resolution="1K",
        created_at=milliseconds("2025-01-02T10:11:12.345+00:00"), session_id="ab12", chat_index=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("duration", "soon"), ("duration", "nan"), ("duration", "-1"), ("duration", "inf"), ("chat-index", "1.5"),
     ("chat-index", str(2**40)), ("created-at", "yesterday"), ("created-at", "0001-01-01T00:00:00+23:59"),
     ("image-id", "img_../../etc"), ("mode", "BASIC; DROP"), ("mode", "x" * 200), ("prompt", ""), ("prompt", "%00"),
     ("something", "else")],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out(name: str, value: str) -> None:
    assert read_object_metadata({name: value}) == ObjectMetadata()


def test_a_prompt_that_was_cut_in_the_middle_of_a_letter_is_read_up_to_there() -> None:
    prompt = read_object_metadata({"prompt": "a%20cat%20%E5%8F"}).prompt
    assert prompt is not None
    assert prompt.startswith("a cat ")
