"""Which requests the Gemini API takes, and how it refuses the others.

Names of fields are those of https://ai.google.dev/api/generate-content; like protobuf's JSON, the body and its
generationConfig also take them in snake_case, which Google's own SDK mixes in. Errors are google.rpc.Status as the
REST API renders it.
"""

import base64
import re
from typing import Any

import orjson

from benchmarks.standin_behaviour import Step
from benchmarks.standin_images import Picture, pixel_size

Json = dict[str, Any]

MODELS = (
    "gemini-3-pro-image",
    "gemini-nano-banana-2.1",
    "gemini-3.1-flash-image",
    "gemini-3.1-flash-lite-image",
    "gemini-2.5-flash-image",
    "gemini-3-flash",
    "gemini-2.5-flash",
)
_BODY_FIELDS = frozenset(
    [
        "contents",
        "tools",
        "toolConfig",
        "safetySettings",
        "systemInstruction",
        "generationConfig",
        "cachedContent",
        "model",
        "serviceTier",
        "store",
    ]
)
_CONFIG_FIELDS = frozenset(
    [
        "stopSequences",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "responseModalities",
        "candidateCount",
        "maxOutputTokens",
        "temperature",
        "topP",
        "topK",
        "seed",
        "presencePenalty",
        "frequencyPenalty",
        "responseLogprobs",
        "logprobs",
        "enableEnhancedCivicAnswers",
        "speechConfig",
        "thinkingConfig",
        "imageConfig",
        "mediaResolution",
    ]
)
_IMAGE_CONFIG_FIELDS = frozenset({"aspectRatio", "imageSize"})
_TOOLS = frozenset({"googleSearch", "urlContext", "codeExecution", "functionDeclarations", "fileSearch", "computerUse"})
_WITHOUT_SEARCH = frozenset({"gemini-3.1-flash-lite-image", "gemini-2.5-flash-image"})
# https://ai.google.dev/gemini-api/docs/image-understanding, "Supported image formats"; GIF is not among them.
_INPUT_TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES = {
    429: "You exceeded your current quota, please check your plan and billing details.",
    500: "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}


class Refused(Exception):
    """The API refuses the request: an HTTP status and Google's error body."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, reason)


def error_body(status: int, message: str = "", reason: str = "", google_status: str = "") -> bytes:
    """google.rpc.Status in JSON, indented as the service sends it; `reason` adds an ErrorInfo."""
    error: Json = {
        "code": status,
        "message": message or _MESSAGES.get(status, "Request failed."),
        "status": google_status or _GOOGLE_STATUS.get(status, "UNKNOWN"),
    }
    if reason:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }
        error["details"] = [info]
    return orjson.dumps({"error": error}, option=orjson.OPT_INDENT_2)


def check_key(key: str | None, bad_keys: frozenset[str]) -> None:
    """Raises Refused as the API does without a key, or with one it doesn't know."""
    if not key:
        raise Refused(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
            "or other form of API consumer identity to call this API.",
        )
    if key in bad_keys:
        raise Refused(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")


def check_model(model: str) -> None:
    if not model.startswith("gemini-"):
        raise Refused(
            404,
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
            "ListModels to see the list of available models and their supported methods.",
        )


def check_body(body: Any, model: str) -> Json:
    """The body, its names in camelCase.

    Raises Refused for what the API wouldn't take: unknown fields, no contents, an unknown tool, a picture of another
    type or in no base64, a picture of an earlier turn sent back to a Gemini 3 model without its thought signature.
    """
    if not isinstance(body, dict):
        raise Refused(400, "Invalid JSON payload received. Unexpected token.")
    checked = _camel_case(body)
    config = _camel_case(body.get("generationConfig", {}))
    config |= {name: _camel_case(config[name]) for name in ("imageConfig", "thinkingConfig") if name in config}
    checked["generationConfig"] = config
    parts = ((checked, _BODY_FIELDS, ""), (config, _CONFIG_FIELDS, " at 'generation_config'"))
    image_config = (config.get("imageConfig", {}), _IMAGE_CONFIG_FIELDS, " at 'generation_config.image_config'")
    for given, known, where in (*parts, image_config):
        for name in sorted(set(given) - known):
            raise Refused(400, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')
    if not checked.get("contents"):
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified\n")
    _check_tools(checked.get("tools", []), model)
    for position, content in enumerate(checked["contents"], 1):
        if content.get("role", "user") not in {"user", "model"}:
            raise Refused(400, "Please use a valid role: user, model.")
        _check_parts(content, position, model)
    return checked


def _camel_case(given: Json) -> Json:
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value for name, value in given.items()}


def _check_parts(content: Json, position: int, model: str) -> None:
    if not content.get("parts"):
        raise Refused(400, "* GenerateContentRequest.contents.parts: contents.parts must not be empty.\n")
    for number, part in enumerate(content["parts"], 1):
        if inline := part.get("inlineData", part.get("inline_data")):
            _check_picture(inline, f"contents[{position - 1}].parts[{number - 1}]")
    if content.get("role") != "model" or not model.startswith("gemini-3"):
        return
    for number, part in enumerate(content["parts"], 1):
        if "inlineData" in part and "thoughtSignature" not in part and not part.get("thought"):
            raise Refused(
                400,
                f"Image part is missing a thought_signature in content position {position}, part position {number}.",
            )


def _check_tools(tools: Any, model: str) -> None:
    for position, tool in enumerate(tools):
        for name in _camel_case(tool):
            if name not in _TOOLS:
                where = f"at 'tools[{position}]': Cannot find field."
                raise Refused(400, f'Invalid JSON payload received. Unknown name "{name}" {where}')
            if name == "googleSearch" and model in _WITHOUT_SEARCH:
                raise Refused(400, "Search as a tool is not enabled for this model")


def _check_picture(inline: Any, where: str) -> None:
    given = _camel_case(inline)
    unknown = set(given) - {"mimeType", "data"}
    if unknown or not isinstance(given.get("data"), str):
        raise Refused(400, f"Invalid JSON payload received. Unknown name at '{where}.inline_data': Cannot find field.")
    if given.get("mimeType") not in _INPUT_TYPES:
        allowed = f"{', '.join(_INPUT_TYPES[:-1])}, or {_INPUT_TYPES[-1]}"
        raise Refused(400, f"* GenerateContentRequest.{where}.inline_data.mime_type: MIME type must be {allowed}.")
    try:
        # protobuf's JSON takes both alphabets, and Google's own SDK sends the other one.
        picture = base64.b64decode(given["data"].replace("-", "+").replace("_", "/"), validate=True)
    except ValueError as wrong:
        raise Refused(
            400, f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed."
        ) from wrong
    if not picture:
        raise Refused(400, "Provided image is not valid.")


def wants_image(body: Json, model: str) -> bool:
    """Whether the request is for a picture: its modalities say, else the model's name."""
    modalities = body.get("generationConfig", {}).get("responseModalities")
    if modalities:
        return "IMAGE" in {str(modality).upper() for modality in modalities}
    return "image" in model or "banana" in model


def asked_picture(body: Json, step: Step) -> Picture:
    """The picture that the request's imageConfig and the step ask for. Raises Refused for an unknown ratio or size."""
    config = body.get("generationConfig", {}).get("imageConfig", {})
    try:
        width, height = step.pixels or pixel_size(config.get("aspectRatio", "1:1"), config.get("imageSize", "1K"))
    except KeyError as unknown:
        raise Refused(400, f"Request contains an invalid argument: {unknown}.") from unknown
    return Picture(step.mime, width, height, step.image_bytes or None)
