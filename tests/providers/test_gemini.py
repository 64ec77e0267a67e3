"""Gemini, from the caller's request over the wire to the stored bytes."""

import asyncio
import base64
import re
from typing import Any

import pytest
from google.genai import Client
from google.genai import types as genai

from benchmarks.gemini_standin import GeminiStandin
from benchmarks.standin_images import pixel_size
from tests.conftest import OPERATOR_KEY, OpenService
from tests.providers.upstream import error_of, image_calls, image_rows, kept_files, upstream_bytes
from tests.support.service import RunningService

OWN_KEY = "own-key.of_a-caller+0123456789"
SAFETY = {
    "strict": "BLOCK_LOW_AND_ABOVE",
    "moderate": "BLOCK_MEDIUM_AND_ABOVE",
    "relaxed": "BLOCK_ONLY_HIGH",
    "none": "BLOCK_NONE",
}
CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


def asked(gemini: GeminiStandin) -> Any:
    """The body of the only call."""
    (call,) = image_calls(gemini)
    return call["body"]


@pytest.mark.parametrize(
    ("ratio", "resolution"),
    [("1:1", "1K"), ("16:9", "1K"), ("9:16", "2K"), ("4:3", "1K"), ("21:9", "1K"), ("5:4", "2K")],
)
async def test_ratio_and_size_are_asked_for_and_delivered(
    gemini_service: RunningService, gemini: GeminiStandin, ratio: str, resolution: str
) -> None:
    guest = await gemini_service.guest()
    data = await guest.image(aspect_ratio=ratio, resolution=resolution)
    assert asked(gemini)["generationConfig"]["imageConfig"] == {"aspectRatio": ratio, "imageSize": resolution}
    assert (data["width"], data["height"]) == pixel_size(ratio, resolution)


async def test_4k_is_asked_for_and_costs_three_points(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    guest = await gemini_service.guest()
    await guest.image(resolution="4K")
    assert asked(gemini)["generationConfig"]["imageConfig"]["imageSize"] == "4K"
    assert await guest.used() == 3


@pytest.mark.parametrize("level", SAFETY)
async def test_each_safety_level_sets_its_threshold_in_every_category(
    gemini_service: RunningService, gemini: GeminiStandin, level: str
) -> None:
    gemini.configure(pixels=(64, 64))
    await (await gemini_service.guest()).image(safety_level=level)
    assert asked(gemini)["safetySettings"] == [{"category": name, "threshold": SAFETY[level]} for name in CATEGORIES]


async def test_what_is_not_asked_for_comes_from_the_settings(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY,
        GOOGLE_GEMINI_BASE_URL=gemini.url,
        GEMINI_IMAGE_MODEL="nano-banana-2",
        DEFAULT_ASPECT_RATIO="3:4",
        DEFAULT_RESOLUTION="2K",
        DEFAULT_SAFETY_LEVEL="strict",
    )
    data = await (await service.guest()).image("  a lighthouse \n")
    (call,) = image_calls(gemini)
    assert call["path"] == "/v1beta/models/gemini-nano-banana-2.1:generateContent"
    assert data["model"] == "gemini-nano-banana-2.1"
    body = call["body"]
    assert body["contents"] == [{"role": "user", "parts": [{"text": "a lighthouse"}]}]
    assert body["safetySettings"][0]["threshold"] == "BLOCK_LOW_AND_ABOVE"
    assert body["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": "3:4", "imageSize": "2K"},
    }


async def test_thinking_and_seed_are_asked_for(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    await (await gemini_service.guest()).image(enable_thinking=True, seed=0)
    config = asked(gemini)["generationConfig"]
    assert config["thinkingConfig"] == {"includeThoughts": True}
    assert config["seed"] == 0


@pytest.mark.parametrize(
    ("named", "called"),
    [
        ("gemini-3-pro-image", "gemini-3-pro-image"),
        ("nano-banana-pro", "gemini-3-pro-image"),
        ("gemini-3-pro-image-preview", "gemini-3-pro-image"),
        ("nano-banana-2", "gemini-nano-banana-2.1"),
        ("nano-banana", "gemini-2.5-flash-image"),
    ],
)
async def test_a_model_is_called_by_its_own_id_whatever_name_was_given(
    gemini_service: RunningService, gemini: GeminiStandin, named: str, called: str
) -> None:
    gemini.configure(pixels=(64, 64))
    data = await (await gemini_service.guest()).image(model=named, provider="gemini")
    assert image_calls(gemini)[0]["path"] == f"/v1beta/models/{called}:generateContent"
    assert data["model"] == called


async def test_what_a_model_does_not_take_is_refused_by_name_before_anything_is_spent(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    guest = await gemini_service.guest()
    response = await guest.generate(
        model="nano-banana", resolution="4K", aspect_ratio="1:8", enable_thinking=True, negative_prompt="fog"
    )
    assert response.status_code == 422
    fields = {entry["field"]: entry for entry in error_of(response)["details"]["fields"]}
    assert set(fields) == {"resolution", "aspect_ratio", "enable_thinking", "negative_prompt"}
    assert fields["resolution"]["allowed"] == ["1K"]
    assert image_calls(gemini) == []
    assert await guest.used() == 0


async def test_the_operators_key_travels_in_a_header_and_never_in_an_address(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64))
    guest = await gemini_service.guest()
    await guest.image()
    (call,) = image_calls(gemini)
    assert call["headers"]["x-goog-api-key"] == OPERATOR_KEY
    assert call["query"] == ""
    assert OPERATOR_KEY not in call["path"] + str(call["body"])
    assert await guest.used() == 1


async def test_an_own_key_is_used_instead_and_not_metered(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    gemini.configure(pixels=(64, 64))
    guest = await gemini_service.guest()
    response = await guest.client.post("/api/generate/basic", json={"prompt": "a"}, headers={"X-API-Key": OWN_KEY})
    assert response.status_code == 200
    assert image_calls(gemini)[0]["headers"]["x-goog-api-key"] == OWN_KEY
    assert await guest.used() == 0
    assert (await guest.history())["total"] == 1
    kept = b"".join(path.read_bytes() for path in service_files(gemini_service))
    assert OWN_KEY.encode() not in kept + response.content


def service_files(service: RunningService) -> list[Any]:
    return [path for path in service.data_dir.rglob("*") if path.is_file()]


def google_config(level: str, *, thinking: bool, seed: int | None) -> genai.GenerateContentConfig:
    return genai.GenerateContentConfig(
        response_modalities=["TEXT", "IMAGE"],
        image_config=genai.ImageConfig(aspect_ratio="16:9", image_size="2K"),
        safety_settings=[
            genai.SafetySetting(category=genai.HarmCategory(name), threshold=genai.HarmBlockThreshold(SAFETY[level]))
            for name in CATEGORIES
        ],
        thinking_config=genai.ThinkingConfig(include_thoughts=True) if thinking else None,
        seed=seed,
    )


def camel_case(value: Any) -> Any:
    """The SDK writes some names in snake_case (`include_thoughts`); protobuf's JSON takes them for the same."""
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): camel_case(v) for key, v in value.items()}
    return [camel_case(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("level", "thinking", "seed"), [("moderate", False, None), ("none", True, 7), ("strict", False, 2**31 - 1)]
)
async def test_our_body_is_the_one_that_googles_own_client_sends(
    gemini_service: RunningService, gemini: GeminiStandin, level: str, thinking: bool, seed: int | None
) -> None:
    """Field by field; beside it only the names' spelling differs, and the SDK calls /v1 where we call /v1beta."""
    gemini.configure(pixels=(64, 64))
    fields: dict[str, Any] = {"seed": seed} if seed is not None else {}
    await (await gemini_service.guest()).image(
        "a red cube", aspect_ratio="16:9", resolution="2K", safety_level=level, enable_thinking=thinking, **fields
    )

    def call_google() -> None:
        with Client(api_key="good-key", http_options=genai.HttpOptions(base_url=gemini.url)) as google:
            config = google_config(level, thinking=thinking, seed=seed)
            google.models.generate_content(model="gemini-3-pro-image", contents="a red cube", config=config)

    await asyncio.to_thread(call_google)
    ours, theirs = (call["body"] for call in image_calls(gemini))
    assert ours == camel_case(theirs)


async def test_anonymous_with_an_own_key_gets_the_image_inline_and_nothing_is_kept(
    gemini_service: RunningService, gemini: GeminiStandin
) -> None:
    client = gemini_service.with_headers(**{"X-API-Key": OWN_KEY})
    response = await client.post("/api/generate/basic", json={"prompt": "a lighthouse"})
    assert response.status_code == 200
    data = response.json()["data"]
    assert base64.b64decode(data["image_base64"]) == await upstream_bytes(gemini, image_calls(gemini)[0])
    assert (data["image_url"], data["thumbnail_url"], data["history_id"]) == (None, None, None)
    assert image_calls(gemini)[0]["headers"]["x-goog-api-key"] == OWN_KEY
    assert kept_files(gemini_service) == []
    assert image_rows(gemini_service) == 0
    assert await (await gemini_service.guest()).used() == 0


async def test_anonymous_without_a_key_is_401(gemini_service: RunningService, gemini: GeminiStandin) -> None:
    response = await gemini_service.client.post("/api/generate/basic", json={"prompt": "a lighthouse"})
    assert (response.status_code, error_of(response)["code"]) == (401, "UNAUTHORIZED")
    assert image_calls(gemini) == []


async def test_without_trial_the_operators_key_is_nobodys(open_service: OpenService, gemini: GeminiStandin) -> None:
    gemini.configure(pixels=(64, 64))
    service = await open_service(GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_ENABLED="false")
    guest = await service.guest()
    for fields in ({}, {"provider": "demo"}):
        response = await guest.generate(**fields)
        assert (response.status_code, error_of(response)["code"]) == (400, "API_KEY_REQUIRED")
    assert image_calls(gemini) == []
    own = await guest.client.post("/api/generate/basic", json={"prompt": "a"}, headers={"X-API-Key": OWN_KEY})
    assert own.status_code == 200
