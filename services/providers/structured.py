"""Answers of the text model as data: asked for by a schema, and checked, since a schema is only a wish to a model.

An answer that is no JSON, half of it, an essay, or of another shape is asked for once more, with its fault named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from core.logging import get_logger
from core.metrics import Metrics
from services.providers.base import SafetyLevel, TextRequest
from services.providers.errors import UnusableAnswer
from services.providers.service import ProviderService, TextRoute
from services.references.models import ReferenceImage

MAX_FAULT_CHARACTERS = 300
# Models like to wrap what they were asked to write plainly.
_FENCE = re.compile(r"\s*```(?:json)?[^\S\n]*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)
# What Google's schemas know of what pydantic says.
_KEYWORDS = ("description", "enum", "minItems", "maxItems", "required")

Shape = TypeVar("Shape", bound=BaseModel)

log = get_logger(__name__)


@dataclass(frozen=True)
class Question:
    """`instruction`: what to do; `text`: with what, which may be anybody's words. `references` follow it."""

    instruction: str
    text: str
    safety_level: SafetyLevel = "moderate"
    references: tuple[ReferenceImage, ...] = ()


class StructuredText:
    def __init__(self, providers: ProviderService, metrics: Metrics) -> None:
        self._providers = providers
        self._metrics = metrics

    async def ask(
        self, route: TextRoute, question: Question, shape: type[Shape], *, total_seconds: float | None = None
    ) -> Shape:
        """The answer in this shape. Raises UnusableAnswer, another ProviderError after the retries, or ContentBlocked.

        `total_seconds`: of one asking, its retries included; REQUEST_TIMEOUT_SECONDS unless said.
        """
        request = TextRequest(
            model=route.model,
            instruction=question.instruction,
            text=question.text,
            schema=schema_of(shape),
            safety_level=question.safety_level,
            api_key=route.api_key,
            references=question.references,
        )
        try:
            found = parsed(await self._providers.write_text(route, request, total_seconds=total_seconds), shape)
            self._metrics.text_answers.labels("ok").inc()
        except UnusableAnswer as error:
            log.info("the text model is asked again", model=route.model.id, fault=str(error))
            again = replace(request, text=f"{request.text}\n\n{_complaint(error)}")
            found = await self._once_more(route, again, shape, total_seconds)
        return found

    async def _once_more(
        self, route: TextRoute, request: TextRequest, shape: type[Shape], total_seconds: float | None
    ) -> Shape:
        try:
            found = parsed(await self._providers.write_text(route, request, total_seconds=total_seconds), shape)
        except UnusableAnswer as error:
            self._metrics.text_answers.labels("unusable").inc()
            log.warning("the text model's answer cannot be used", model=route.model.id, fault=str(error))
            raise
        self._metrics.text_answers.labels("second_try").inc()
        return found


def parsed(text: str, shape: type[Shape]) -> Shape:
    """An answer, also one in a fence of Markdown. Raises UnusableAnswer, which says what is wrong with it."""
    fenced = _FENCE.fullmatch(text)
    try:
        return shape.model_validate_json(fenced[1] if fenced else text)
    except ValidationError as error:
        raise UnusableAnswer(_fault(error)) from error


def schema_of(shape: type[BaseModel]) -> dict[str, Any]:
    """The form of a model's answer as Google's `responseSchema` takes it: without references, and without the bounds of
    texts, which are for us to check.
    """
    whole = shape.model_json_schema()
    return _plain(whole, whole.get("$defs", {}))


def _plain(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    plain: dict[str, Any] = {name: node[name] for name in _KEYWORDS if name in node}
    plain["type"] = node["type"].upper()  # an enumeration of Google's, whose names are in capitals
    if "properties" in node:
        plain["properties"] = {name: _plain(part, definitions) for name, part in node["properties"].items()}
    if "items" in node:
        plain["items"] = _plain(node["items"], definitions)
    return plain


def _fault(error: ValidationError) -> str:
    """What is wrong, without a word of the answer: it goes into the log."""
    faults = [
        f"{'.'.join(map(str, entry['loc'])) or 'the answer'}: {entry['msg']}"
        for entry in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(faults)[:MAX_FAULT_CHARACTERS]


def _complaint(error: UnusableAnswer) -> str:
    return f"Your previous answer could not be used ({error}). Answer again, with the JSON alone."
