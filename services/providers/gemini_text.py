"""Asking a text model of Gemini for JSON: the body of `generateContent`, and what is read of the answer.

Wire format: https://ai.google.dev/gemini-api/docs/structured-output, as read on 2026-11-22.
"""

from typing import Any

import aiohttp
import orjson

from services.providers.base import TextRequest
from services.providers.errors import ProviderUnavailable
from services.providers.gemini_answer import block_of, candidate_of, texts
from services.providers.gemini_contents import question
from services.providers.gemini_request import Body, safety_settings

MAX_TEXT_BYTES = 1024 * 1024
# Of models that take it (Gemini 3 and later), in the catalog; the ones before have a budget in its place.
THINKING_LEVEL = "thinking_level"


def text_body(request: TextRequest) -> Body:
    """The body for one answer in JSON."""
    return Body([*question(request.text, request.references), orjson.dumps(_settings(request))[1:]])


async def read_text(response: aiohttp.ClientResponse) -> str:
    """What the model wrote, thoughts left out; empty when it wrote nothing.

    Raises ContentBlocked, or ProviderUnavailable for what is no answer.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_TEXT_BYTES:
            raise ProviderUnavailable(f"an answer of over {MAX_TEXT_BYTES} bytes", retryable=False)
    try:
        return _text_of(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise ProviderUnavailable("not JSON, or cut off") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ProviderUnavailable(f"the answer has an unknown shape: {error!r}", retryable=False) from error


def _text_of(answer: Any) -> str:
    blocked = block_of(answer)
    if blocked is not None:
        raise blocked
    return texts(candidate_of(answer)[1], thought=False) or ""


def _settings(request: TextRequest) -> dict[str, Any]:
    """All but the contents."""
    generation: dict[str, Any] = {"responseMimeType": "application/json", "responseSchema": request.schema}
    if THINKING_LEVEL in request.model.takes:
        # What is asked here needs little thought, and somebody waits for it.
        generation["thinkingConfig"] = {"thinkingLevel": "LOW"}
    return {
        "systemInstruction": {"parts": [{"text": request.instruction}]},
        "generationConfig": generation,
        "safetySettings": safety_settings(request.safety_level),
    }
