"""The text model: what it is asked, what its answers are taken for, and what becomes of those that are none."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from google.genai import Client
from google.genai import types as genai
from pydantic import BaseModel, Field, SecretStr

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_behaviour import StepFields
from core.errors import AppError
from core.metrics import Metrics
from services.moderation.errors import ContentBlocked
from services.providers.errors import (
    ApiKeyRequired,
    InvalidApiKey,
    ProviderConnection,
    ProviderError,
    ProviderOverloaded,
    ProviderTimeout,
    ProviderUnavailable,
    UnusableAnswer,
)
from services.providers.service import ProviderService
from services.providers.structured import Question, StructuredText, parsed, schema_of
from services.references.models import ReferenceImage
from tests.providers.test_gemini import camel_case
from tests.providers.test_gemini_retries import provider_service
from tests.providers.upstream import upstream_saying
from tests.references import pictures
from tests.support.service import RunningService
from tests.support.waiting import eventually


class Part(BaseModel):
    name: str = Field(description="one word", max_length=20)
    number: int


class Shape(BaseModel):
    kind: Literal["good", "bad"]
    parts: list[Part] = Field(min_length=1, max_length=3)


GOOD = '{"kind": "bad", "parts": [{"name": "a", "number": 7}]}'
QUESTION = Question("Sort these.", "a red cube")
SCHEMA = {
    "type": "OBJECT",
    "required": ["kind", "parts"],
    "properties": {
        "kind": {"type": "STRING", "enum": ["good", "bad"]},
        "parts": {
            "type": "ARRAY",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "OBJECT",
                "required": ["name", "number"],
                "properties": {
                    "name": {"type": "STRING", "description": "one word"},
                    "number": {"type": "INTEGER"},
                },
            },
        },
    },
}


async def ask(
    service: ProviderService, question: Question = QUESTION, metrics: Metrics | None = None, **limits: float
) -> Shape:
    route = service.route_text(own_key=None, operator_key_allowed=True)
    return await StructuredText(service, metrics or Metrics()).ask(route, question, Shape, **limits)


def asked(gemini: GeminiStandin) -> list[str]:
    """The texts of the calls."""
    return [call["body"]["contents"][0]["parts"][0]["text"] for call in gemini.text_requests()]


async def eventually_idle(gemini: GeminiStandin) -> bool:
    async def idle() -> bool:
        return gemini.text_stats()["waiting"] == 0

    return await eventually(idle)


async def test_what_is_asked_is_what_googles_own_client_sends(gemini: GeminiStandin, tmp_path: Path) -> None:
    picture = pictures.picture()
    path = tmp_path / "one.png"
    path.write_bytes(picture)
    image = ReferenceImage(path, "image/png", 16, 16, 1, len(picture))
    async with provider_service(gemini.url, tmp_path) as service:
        found = await ask(service, replace(QUESTION, references=(image,)))
    assert found.kind == "good"
    assert path.read_bytes() == picture
    assert schema_of(Shape) == SCHEMA

    def call_google() -> None:
        with Client(api_key="good-key", http_options=genai.HttpOptions(base_url=gemini.url)) as google:
            config = genai.GenerateContentConfig(
                system_instruction=QUESTION.instruction,
                response_mime_type="application/json",
                response_schema=SCHEMA,
                thinking_config=genai.ThinkingConfig(thinking_level=genai.ThinkingLevel.LOW),
                safety_settings=[
                    genai.SafetySetting(category=category, threshold=genai.HarmBlockThreshold.BLOCK_MEDIUM_AND_ABOVE)
                    for category in (
                        genai.HarmCategory.HARM_CATEGORY_HARASSMENT,
                        genai.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
                        genai.HarmCategory.HARM_CATEGORY_SEXUALLY_EXPLICIT,
                        genai.HarmCategory.HARM_CATEGORY_DANGEROUS_CONTENT,
                    )
                ],
            )
            parts = [
                genai.Part.from_text(text=QUESTION.text),
                genai.Part.from_bytes(data=picture, mime_type="image/png"),
            ]
            google.models.generate_content(
                model="gemini-3-flash", contents=genai.Content(role="user", parts=parts), config=config
            )

    await asyncio.to_thread(call_google)
    ours, theirs = (call["body"] for call in gemini.text_requests())
    assert _comparable(ours) == _comparable(camel_case(theirs))


def _comparable(body: Any) -> Any:
    """Without what the SDK adds and Google does not need: the order of properties, the role of an instruction. Base64
    in one alphabet.
    """
    if isinstance(body, dict):
        found = {name: _comparable(value) for name, value in body.items() if name != "propertyOrdering"}
        if "systemInstruction" in found:
            found["systemInstruction"].pop("role", None)
        return found
    if isinstance(body, list):
        return [_comparable(entry) for entry in body]
    return body.replace("-", "+").replace("_", "/") if isinstance(body, str) else body


@pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```", f"\n```\n{GOOD}\n```  \n", f"  {GOOD}\n"])
async def test_json_is_taken_also_in_a_fence(gemini: GeminiStandin, tmp_path: Path, text: str) -> None:
    gemini.configure_text(text=text)
    async with provider_service(gemini.url, tmp_path) as service:
        found = await ask(service)
    assert (found.kind, found.parts[0].number) == ("bad", 7)
    assert len(gemini.text_requests()) == 1


UNUSABLE: dict[str, StepFields] = {
    "no JSON": {"text": "I would rather not."},
    "an essay": {"text": f"Cubes, it must be said, are of two kinds. {'Red ones are many. ' * 400}\n{GOOD}\nSo much."},
    "half": {"text": GOOD[:-9]},
    "half in a fence": {"text": f"```json\n{GOOD[:-9]}\n```"},
    "nothing": {"text": ""},
    "of another shape": {"text": '{"kind": "fine", "parts": []}'},
    "a list": {"text": "[]"},
    "null": {"text": "null"},
    "too long": {"text": GOOD.replace('"a"', f'"{"a" * 21}"')},
    "half of what the schema asks for": {"mode": "half_text"},
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_an_unusable_answer_is_asked_for_once_more_with_its_fault(
    gemini: GeminiStandin, tmp_path: Path, name: str
) -> None:
    gemini.script_text({**UNUSABLE[name], "times": 1}, {"text": GOOD})
    async with provider_service(gemini.url, tmp_path) as service:
        assert (await ask(service)).kind == "bad"
    first, second = asked(gemini)
    assert first == QUESTION.text
    assert second.startswith(f"{QUESTION.text}\n\nYour previous answer could not be used (")


@pytest.mark.parametrize("name", UNUSABLE)
async def test_after_two_it_is_an_error(gemini: GeminiStandin, tmp_path: Path, name: str) -> None:
    gemini.configure_text(**UNUSABLE[name])
    metrics = Metrics()
    async with provider_service(gemini.url, tmp_path) as service:
        with pytest.raises(UnusableAnswer) as raised:
            await ask(service, metrics=metrics)
    assert len(asked(gemini)) == 2
    assert raised.value.details == {}
    assert "rather not" not in str(raised.value)
    assert b'text_answers_total{outcome="unusable"} 1.0' in metrics.render()


@pytest.mark.parametrize(
    ("step", "error", "calls"),
    [
        ({"mode": "error", "status": 503}, ProviderOverloaded, 4),
        ({"mode": "error", "status": 500}, ProviderUnavailable, 1),
        ({"mode": "error", "status": 403}, InvalidApiKey, 1),
        ({"mode": "reset"}, ProviderConnection, 4),
        ({"mode": "half"}, ProviderError, 4),
        ({"mode": "broken_json"}, ProviderUnavailable, 4),
        ({"mode": "html"}, ProviderUnavailable, 4),
        ({"mode": "redirect"}, ProviderUnavailable, 1),
        ({"mode": "huge", "huge_bytes": 3_000_000}, ProviderUnavailable, 1),
        ({"mode": "prompt_blocked"}, ContentBlocked, 1),
        ({"mode": "safety", "finish_reason": "SAFETY"}, ContentBlocked, 1),
    ],
    ids=lambda value: value.get("mode", "") + str(value.get("status", "")) if isinstance(value, dict) else "",
)
async def test_what_fails_is_tried_again_as_images_are(
    gemini: GeminiStandin, tmp_path: Path, step: StepFields, error: type[AppError], calls: int
) -> None:
    gemini.configure_text(**step)
    async with provider_service(gemini.url, tmp_path) as service:
        with pytest.raises(error):
            await ask(service)
    assert len(gemini.text_requests()) == calls


async def test_a_model_that_hangs_has_its_time(gemini: GeminiStandin, tmp_path: Path) -> None:
    gemini.configure_text(mode="hang")
    async with provider_service(gemini.url, tmp_path) as service:
        with pytest.raises(ProviderTimeout):
            await ask(service, total_seconds=0.2)
    assert await eventually_idle(gemini)


@pytest.mark.parametrize("answer", ["[]", "5", '{"candidates": 5}', '{"candidates": [{"content": {"parts": [5]}}]}'])
async def test_an_answer_of_another_form_is_no_answer(tmp_path: Path, answer: str) -> None:
    async with upstream_saying(200, [answer.encode()]) as url, provider_service(url, tmp_path) as service:
        with pytest.raises(ProviderUnavailable):
            await ask(service)


def test_a_fault_says_where_and_nothing_of_the_answer() -> None:
    with pytest.raises(UnusableAnswer) as raised:
        parsed('{"kind": "secret words", "parts": [{"name": "b"}]}', Shape)
    assert str(raised.value) == "kind: Input should be 'good' or 'bad'; parts.0.number: Field required"


async def test_without_a_key_nothing_writes(service: RunningService) -> None:
    """The demo draws, and does not write."""
    providers = service.container.providers
    with pytest.raises(ApiKeyRequired) as raised:
        providers.route_text(own_key=None, operator_key_allowed=True)
    assert "X-API-Key" in str(raised.value.details["hint"])
    assert "GOOGLE_API_KEY" in str(raised.value.details["hint"])
    own = providers.route_text(own_key=SecretStr("own-key-of-a-caller"), operator_key_allowed=False)
    assert (own.model.id, own.key_source) == ("gemini-3-flash", "request")
