"""The bodies of Gemini's answers, in the shapes of https://ai.google.dev/api/generate-content."""

import base64
import gzip
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import orjson

from benchmarks.standin_behaviour import Step
from benchmarks.standin_images import Picture, encode

Json = dict[str, Any]

_IMAGE_TOKENS = 1120  # what the guide says a 1K or 2K image of gemini-3-pro-image costs
_serial = count(1)


@dataclass(frozen=True)
class EncodedPicture:
    """A picture with its base64 texts, each made once, so that an answer costs the stand-in next to nothing."""

    data: bytes

    @classmethod
    def render(cls, picture: Picture) -> "EncodedPicture":
        return cls(encode(picture))

    @cached_property
    def standard(self) -> bytes:
        return base64.b64encode(self.data)

    @cached_property
    def url_safe(self) -> bytes:
        return base64.urlsafe_b64encode(self.data)

    @cached_property
    def escaped(self) -> bytes:
        return self.standard.replace(b"=", b"\\u003d").replace(b"/", b"\\/")

    def text(self, formats: frozenset[str]) -> bytes:
        if "url_safe_base64" in formats:
            return self.url_safe
        return self.escaped if "escaped_base64" in formats else self.standard


def text_answer(body: Json, step: Step, model: str) -> list[bytes]:
    """The answer of a text model under the step's mode, in pieces."""
    kept_back = _kept_back(body, step, model)
    if kept_back is not None:
        return kept_back
    text, finish_reason = _written(body, step), "STOP"
    if step.mode == "half_text":
        text, finish_reason = text[: len(text) // 2], "MAX_TOKENS"
    elif step.mode == "fenced_text":
        text = f"```json\n{text}\n```\n"
    return _render(_envelope(body, [{"text": text}], finish_reason, model, 0), {}, step.formats)


def _written(body: Json, step: Step) -> str:
    config = body.get("generationConfig", {})
    if step.text is not None:
        return step.text
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema:
        return orjson.dumps(_instance(schema)).decode()
    return "{}" if config.get("responseMimeType") == "application/json" else "A fine answer."


def _kept_back(body: Json, step: Step, model: str) -> list[bytes] | None:
    """What the API answers when its own filter keeps the answer back; None: it does not."""
    if step.mode == "prompt_blocked":
        blocked = {"promptFeedback": {"blockReason": step.block_reason}, "modelVersion": model}
        return _render(blocked | {"usageMetadata": _usage(body, 0)}, {}, step.formats)
    if step.mode == "safety":
        envelope = _envelope(body, [], step.finish_reason, model, 0)
        envelope["candidates"][0]["finishMessage"] = "Unable to show the generated image."
        return _render(envelope, {}, step.formats)
    return None


def image_answer(body: Json, step: Step, picture: EncodedPicture, model: str) -> list[bytes]:
    """The answer of an image model under the step's mode, in pieces, of which the picture's text is shared."""
    kept_back = _kept_back(body, step, model)
    if kept_back is not None:
        return kept_back
    words = {"text": step.text if step.text is not None else "Here is what I can say."}
    if step.mode == "no_image":
        return _render(_envelope(body, [words], "STOP", model, 0), {}, step.formats)
    thinking = body.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts") is True
    parts: list[Json] = []
    if step.mode == "thoughts" or (thinking and step.mode != "text_and_image"):
        parts += [{"text": "I am weighing the composition.", "thought": True}, _picture_part(step, "@0@", True)]
    if step.mode == "text_and_image" or step.text is not None:
        parts.append(words | _signature(step))
    parts.append(_picture_part(step, "@1@", False))
    envelope = _envelope(body, parts, "STOP", model, _IMAGE_TOKENS)
    if any("google_search" in tool or "googleSearch" in tool for tool in body.get("tools", ())):
        envelope["candidates"][0]["groundingMetadata"] = _grounding(step)
    data = picture.text(step.formats)
    if step.mode == "truncated_base64":
        data = data[: len(data) // 2 // 4 * 4 + 1]  # a rest of one character belongs to no byte
    elif step.mode == "not_image":
        data = base64.b64encode(b"this is not an image")
    return _render(envelope, {b"@0@": data, b"@1@": data}, step.formats)


def _picture_part(step: Step, placeholder: str, thought: bool) -> Json:
    inline = {"mimeType": step.mime, "data": placeholder}
    if "mime_after_data" in step.formats:
        inline = {"data": placeholder, "mimeType": step.mime}
    part: Json = {"inlineData": inline}
    if thought:
        return part | {"thought": True}
    return part | _signature(step)


def _signature(step: Step) -> Json:
    """Each one another, as the service's are; opaque to whoever sends it back."""
    signature = (b"signature %d of an answer " % next(_serial)).ljust(step.signature_bytes, b"~")
    return {"thoughtSignature": base64.b64encode(signature).decode()}


def _envelope(body: Json, parts: list[Json], finish_reason: str, model: str, image_tokens: int) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"} if parts else {}}
    candidate |= {"finishReason": finish_reason, "index": 0}
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(body, image_tokens),
        "modelVersion": model,
        "responseId": f"standin-{next(_serial)}",
    }


def count_tokens(body: Json) -> int:
    """About four characters a token, as the guide says; pictures 258 each."""
    parts = [part for content in body.get("contents", ()) for part in content.get("parts", ())]
    return sum(len(part.get("text", "")) // 4 + 1 if "text" in part else 258 for part in parts)


def _usage(body: Json, image_tokens: int) -> Json:
    prompt = count_tokens(body)
    usage: Json = {
        "promptTokenCount": prompt,
        "totalTokenCount": prompt + image_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }
    if image_tokens:
        details = [{"modality": "IMAGE", "tokenCount": image_tokens}]
        usage |= {"candidatesTokenCount": image_tokens, "candidatesTokensDetails": details}
    return usage


def _grounding(step: Step) -> Json:
    return {
        "searchEntryPoint": {"renderedContent": step.search_html},
        "groundingChunks": [{"web": {"uri": "https://example.com/weather", "title": "example.com"}}],
        "webSearchQueries": ["weather today"],
    }


def _instance(schema: Json) -> Any:
    """The smallest instance of a response schema: the first of an enum, one item (or minItems), every property."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {name: _instance(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_instance(schema.get("items", {}))] * max(1, int(schema.get("minItems", 1)))
    simple: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.0, "boolean": True}
    return simple.get(kind)


def _render(answer: Json, data: dict[bytes, bytes], formats: frozenset[str]) -> list[bytes]:
    """The JSON split at its placeholders, with each picture's text between: megabytes are neither copied nor dumped."""
    rest = orjson.dumps(answer, option=orjson.OPT_INDENT_2 if "pretty" in formats else 0)
    pieces: list[bytes] = []
    for placeholder, text in data.items():
        before, found, after = rest.partition(b'"' + placeholder + b'"')
        if found:
            pieces += [before + b'"', text]
            rest = b'"' + after
    pieces.append(rest)
    return [gzip.compress(b"".join(pieces), 1)] if "gzip" in formats else pieces
