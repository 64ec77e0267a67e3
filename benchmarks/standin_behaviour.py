"""What the stand-in is told to do: one frozen `Step` an answer, and the scripts of steps that requests walk through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict, cast, get_args

Mode = Literal[
    "ok",  # the image asked for; thoughts before it when the request includes them
    "thoughts",  # a thought text, a thought image and the image, whatever the request says
    "text_and_image",
    "no_image",  # an answer in words alone
    "safety",  # a candidate without content, `finish_reason` says why
    "prompt_blocked",  # no candidate, `block_reason` says why
    "half_text",  # a text model's answer ends in the middle of its JSON, as at its limit of tokens
    "fenced_text",  # and one in a fence of Markdown
    "not_image",  # valid base64 of bytes that are no image
    "truncated_base64",
    "broken_json",  # the body ends in the middle, its Content-Length agrees
    "error",  # `status`, `google_status`, `message`, `retry_after`, `reason`
    "html",  # 200 with a page, as from a captive portal
    "redirect",  # 302 to `location`
    "huge",  # 200 with `huge_bytes` of white space
    "drip",  # the image's answer, spread over `drip_seconds`
    "half",  # the connection ends in the middle of the body
    "reset",  # the connection is reset without an answer
    "hang",  # no answer at all
]
Format = Literal[
    "mime_after_data",
    "pretty",  # indented JSON
    "escaped_base64",  # = as \u003d and / as \/
    "url_safe_base64",
    "chunked",  # Transfer-Encoding instead of Content-Length, as the real service does
    "gzip",
]
Target = Literal["image", "text"]


class StepFields(TypedDict, total=False):
    """The fields of `Step`, as keyword arguments and as the JSON of `POST /_control`."""

    mode: Mode
    times: int
    delay_seconds: float
    image_bytes: int
    mime: str
    pixels: tuple[int, int]
    text: str
    formats: Sequence[Format]
    status: int
    google_status: str
    message: str
    reason: str
    retry_after: str
    finish_reason: str
    block_reason: str
    location: str
    huge_bytes: int
    drip_seconds: float
    search_html: str
    signature_bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """How `times` requests are answered (0: all that follow).

    `delay_seconds` passes before the first byte. `image_bytes` 0 leaves the size as it falls; `pixels` overrides
    what the request asks for. `text` is the text part, or the whole answer of a text model (None: words, or an
    instance of the response schema). `{key}` in `message` becomes the caller's key, as a careless upstream would.
    `signature_bytes`: how long a thought signature is at least.
    """

    mode: Mode = "ok"
    times: int = 0
    delay_seconds: float = 0.0
    image_bytes: int = 0
    mime: str = "image/png"
    pixels: tuple[int, int] | None = None
    text: str | None = None
    formats: frozenset[str] = frozenset()
    status: int = 503
    google_status: str = ""
    message: str = ""
    reason: str = ""
    retry_after: str = ""
    finish_reason: str = "IMAGE_SAFETY"
    block_reason: str = "PROHIBITED_CONTENT"
    location: str = "http://127.0.0.1:9/elsewhere"
    huge_bytes: int = 100_000_000
    drip_seconds: float = 1.0
    search_html: str = '<div class="container"><a class="chip" href="https://www.google.com/search?q=x">x</a></div>'
    signature_bytes: int = 0


def parse_step(given: Mapping[str, Any]) -> Step:
    """A step from JSON. Raises ValueError for a field, mode or format that doesn't exist."""
    unknown = set(given) - {known.name for known in fields(Step)}
    if unknown:
        raise ValueError(f"unknown fields: {sorted(unknown)}")
    values = dict(given)
    values["formats"] = frozenset(given.get("formats", ()))
    if given.get("pixels") is not None:
        width, height = given["pixels"]
        values["pixels"] = (int(width), int(height))
    if values.get("mode", "ok") not in get_args(Mode):
        raise ValueError(f"unknown mode: {values['mode']}")
    if not values["formats"] <= set(get_args(Format)):
        raise ValueError(f"unknown formats: {sorted(values['formats'])}")
    return Step(**values)


@dataclass(slots=True)
class Script:
    """Steps in turn; the last one stays."""

    steps: list[Step] = field(default_factory=lambda: [Step()])
    _taken: int = 0

    def next(self) -> Step:
        step = self.steps[0]
        self._taken += 1
        if step.times and self._taken >= step.times and len(self.steps) > 1:
            self.steps.pop(0)
            self._taken = 0
        return step


@dataclass(slots=True)
class Control:
    """What `POST /_control` sets: a script for image models and one for text models, and the keys that are bad."""

    image: Script = field(default_factory=Script)
    text: Script = field(default_factory=Script)
    bad_keys: frozenset[str] = frozenset({"bad-key"})

    def apply(self, given: Mapping[str, Any]) -> None:
        """Sets the parts that are named. Raises ValueError and changes nothing if a part is wrong."""
        unknown = set(given) - {"image", "text", "bad_keys"}
        if unknown:
            raise ValueError(f"unknown parts: {sorted(unknown)}")
        scripts = {name: _parse_script(given[name]) for name in get_args(Target) if name in given}
        self.image = scripts.get("image", self.image)
        self.text = scripts.get("text", self.text)
        if "bad_keys" in given:
            self.bad_keys = frozenset(cast(list[str], given["bad_keys"]))


def _parse_script(given: Sequence[Mapping[str, Any]]) -> Script:
    if not given:
        raise ValueError("a script has at least one step")
    return Script([parse_step(step) for step in given])
