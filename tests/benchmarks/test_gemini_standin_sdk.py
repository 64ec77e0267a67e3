"""Google's own client understands the stand-in, so what is tested against the stand-in speaks Gemini's language."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from google.genai import Client, errors
from google.genai import types as genai
from PIL import Image

from benchmarks.gemini_standin import GeminiStandin

IMAGE_MODEL = "gemini-3-pro-image"


@pytest.fixture
def google(standin: GeminiStandin) -> Iterator[Client]:
    with Client(api_key="good-key", http_options=genai.HttpOptions(base_url=standin.url)) as client:
        yield client


def generate(google: Client, prompt: Any = "a red cube", **config: Any) -> genai.GenerateContentResponse:
    return google.models.generate_content(
        model=IMAGE_MODEL,
        contents=prompt,
        config=genai.GenerateContentConfig(response_modalities=["TEXT", "IMAGE"], **config),
    )


def parts_of(answer: genai.GenerateContentResponse) -> list[genai.Part]:
    assert answer.candidates
    content = answer.candidates[0].content
    assert content is not None
    return content.parts or []


def test_official_client_gets_an_image(google: Client) -> None:
    config = genai.ImageConfig(aspect_ratio="21:9", image_size="1K")
    (part,) = parts_of(generate(google, image_config=config))
    assert part.inline_data is not None
    assert Image.open(io.BytesIO(part.inline_data.data or b"")).size == (1584, 672)
    assert part.thought_signature


def test_official_client_gets_thoughts_and_grounding(google: Client) -> None:
    answer = generate(
        google,
        thinking_config=genai.ThinkingConfig(include_thoughts=True),
        tools=[genai.Tool(google_search=genai.GoogleSearch())],
    )
    assert [part.thought for part in parts_of(answer)] == [True, True, None]
    assert answer.candidates
    grounding = answer.candidates[0].grounding_metadata
    assert grounding is not None
    assert grounding.search_entry_point is not None
    assert "chip" in (grounding.search_entry_point.rendered_content or "")


def test_official_client_continues_a_chat(google: Client, standin: GeminiStandin) -> None:
    chat = google.chats.create(model=IMAGE_MODEL)
    (first,) = parts_of(chat.send_message("a red cube"))
    chat.send_message("make it blue")
    sent = standin.requests()[1]["body"]["contents"]
    assert [content["role"] for content in sent] == ["user", "model", "user"]
    assert base64.urlsafe_b64decode(sent[1]["parts"][0]["thoughtSignature"]) == first.thought_signature


def test_official_client_sees_a_block(google: Client, standin: GeminiStandin) -> None:
    standin.script({"mode": "safety", "finish_reason": "IMAGE_SAFETY", "times": 1}, {"mode": "prompt_blocked"})
    refused = generate(google)
    assert refused.candidates
    assert refused.candidates[0].finish_reason is genai.FinishReason.IMAGE_SAFETY
    blocked = generate(google)
    assert not blocked.candidates
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason is genai.BlockedReason.PROHIBITED_CONTENT


def test_official_client_sees_an_error(google: Client, standin: GeminiStandin) -> None:
    standin.configure(mode="error", status=503)
    with pytest.raises(errors.ServerError) as raised:
        generate(google)
    assert (raised.value.code, raised.value.status) == (503, "UNAVAILABLE")


def test_official_client_lists_models_and_counts_tokens(google: Client) -> None:
    assert f"models/{IMAGE_MODEL}" in [model.name for model in google.models.list()]
    assert google.models.get(model=IMAGE_MODEL).supported_actions
    assert google.models.count_tokens(model=IMAGE_MODEL, contents="a red cube").total_tokens
