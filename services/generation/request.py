"""A command becomes the provider's request, or is refused before anything is spent."""

from collections.abc import Iterator

from core.errors import FieldProblem, ValidationFailed
from services.generation.models import CAPABILITIES, GenerationCommand
from services.providers.base import Capability, ImageRequest, Model
from services.providers.service import Route

STYLE_IMAGES = 2  # the content, then the style


def image_request(command: GenerationCommand, route: Route) -> ImageRequest:
    """The provider's request. Raises ValidationFailed with all that the model cannot do, and what it can."""
    model = route.model
    problems: list[FieldProblem] = []
    if command.aspect_ratio not in model.aspect_ratios:
        problems.append(FieldProblem("aspect_ratio", "not_supported", allowed=model.aspect_ratios))
    if command.resolution not in model.resolutions:
        problems.append(FieldProblem("resolution", "not_supported", allowed=model.resolutions))
    asked = {
        "enable_thinking": command.enable_thinking,
        "negative_prompt": command.negative_prompt is not None,
        "seed": command.seed is not None,
    }
    problems += [
        FieldProblem(field, "not_supported") for field, given in asked.items() if given and field not in model.takes
    ]
    problems += _wrong_number(command, model)
    if problems:
        raise ValidationFailed(problems)
    return ImageRequest(
        model=model,
        prompt=command.prompt,
        aspect_ratio=command.aspect_ratio,
        resolution=command.resolution,
        safety_level=command.safety_level,
        enable_thinking=command.enable_thinking,
        seed=command.seed,
        negative_prompt=command.negative_prompt,
        api_key=route.api_key,
        grounded=CAPABILITIES[command.mode] is Capability.SEARCH,
        references=command.references,
        style_transfer=command.mode == "style",
    )


def _wrong_number(command: GenerationCommand, model: Model) -> Iterator[FieldProblem]:
    given, most = len(command.references), model.max_references
    if command.mode == "style":
        most = min(most, STYLE_IMAGES)
        if given < STYLE_IMAGES:
            yield FieldProblem("images", "too_short", limit=STYLE_IMAGES)
    if given > most:
        yield FieldProblem("images", "too_long", limit=most)
