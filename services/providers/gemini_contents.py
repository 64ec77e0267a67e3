"""What is said to Gemini: the message, with the turns before it where there are any (docs/adr/0015).

An answer goes back to the model that gave it part by part, as it came and with its thought signatures. Another model
knows nothing of these: it is shown the image at the beginning of the message that followed.
"""

from collections.abc import Iterable, Iterator

import orjson

from services.providers.base import EarlierPart, EarlierTurn, ImageRequest, KeptText
from services.references.models import ReferenceImage

# Bytes are JSON as it is sent, images become base64, texts are sent as they lie in their files.
Segment = bytes | ReferenceImage | KeptText
Part = list[Segment]

STYLE_INSTRUCTION = (
    "Redraw the first image in the style of the second: keep what the first one shows, and take colours, light, "
    "brushwork and texture from the second."
)
LEFT_OUT = "[A picture that stood here is not shown any more.]"
SHOWN_BELOW = "[I made a picture, which the next message begins with.]"


def contents(request: ImageRequest) -> Iterator[Segment]:
    """The body up to the end of `contents` and the comma behind it."""
    yield b'{"contents":['
    shown: list[Part] = []
    for turn in request.turns or ():
        yield from _content(b"user", [*shown, _said(turn.prompt), *map(_picture, turn.references)])
        yield b","
        answer = [_part(part, turn) for part in turn.parts] or [_said(turn.said or SHOWN_BELOW)]
        yield from _content(b"model", answer)
        yield b","
        shown = [] if turn.parts else [_picture(turn.image)]
    prompt = f"{STYLE_INSTRUCTION}\n\n{request.prompt}" if request.style_transfer else request.prompt
    yield from _content(b"user", [*shown, _said(prompt), *map(_picture, request.references)])
    yield b"],"


def question(text: str, references: Iterable[ReferenceImage]) -> Iterator[Segment]:
    """The same for a text and its images, with nothing before them."""
    yield b'{"contents":['
    yield from _content(b"user", [_said(text), *map(_picture, references)])
    yield b"],"


def _content(role: bytes, parts: list[Part]) -> Iterator[Segment]:
    yield b'{"role":"%s","parts":[' % role
    for number, part in enumerate(parts):
        if number:
            yield b","
        yield from part
    yield b"]}"


def _said(text: str) -> Part:
    return [orjson.dumps({"text": text})]


def _picture(image: ReferenceImage | None) -> Part:
    """As the last or only thing of its part."""
    return _said(LEFT_OUT) if image is None else [*_open_picture(image), b"}"]


def _part(part: EarlierPart, turn: EarlierTurn) -> Part:
    """A picture that is left out goes with its signature, which is of nothing then."""
    if part.text is not None:
        return [b'{"text":"', part.text, b'"', *_signature(part.signature), b"}"]
    if turn.image is None:
        return _said(LEFT_OUT)
    return [*_open_picture(turn.image), *_signature(part.signature), b"}"]


def _open_picture(image: ReferenceImage) -> Part:
    return [b'{"inlineData":{"mimeType":"%s","data":"' % image.mime_type.encode(), image, b'"}']


def _signature(signature: KeptText | None) -> Part:
    return [] if signature is None else [b',"thoughtSignature":"', signature, b'"']
