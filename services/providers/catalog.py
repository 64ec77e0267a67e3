"""The models as data: services/providers/catalog.toml, with the operator's DATA_DIR/models.toml over it."""

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import FieldProblem, ValidationFailed
from services.providers.base import Capability, Model, ProviderInfo


class CatalogError(Exception):
    """The catalog cannot be used as models.toml or the settings want it; `str()` says why, in one line."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ProviderEntry(_Entry):
    display_name: str
    default_model: str
    timeout_seconds: Annotated[float, Field(gt=0)]
    max_retries: Annotated[int, Field(ge=0)]
    text_model: str | None = None


class _ModelEntry(_Entry):
    provider: str
    aliases: tuple[str, ...] = ()
    capabilities: frozenset[Capability]
    aspect_ratios: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    max_references: Annotated[int, Field(ge=0)] = 0
    prices: dict[str, Annotated[float, Field(ge=0)]] = {}
    deprecated_on: date | None = None
    ends_on: date | None = None
    successor: str | None = None


class _Content(_Entry):
    providers: dict[str, _ProviderEntry]
    models: dict[str, _ModelEntry]


class Catalog:
    def __init__(self, providers: Mapping[str, ProviderInfo], models: Mapping[str, Model]) -> None:
        self.providers = dict(providers)
        self.models = dict(models)
        self._by_name = {name: model for model in models.values() for name in (model.id, *model.aliases)}

    def named(self, name: str) -> Model:
        """By id or alias."""
        return self._by_name[name]

    def find(self, provider: str, name: str | None, capability: Capability, today: date) -> Model:
        """The model of this name or alias, the provider's default for None.

        Raises ValidationFailed: it is not there, cannot do this, or has ended (with its successor).
        """
        model = self._by_name.get(name or self._default(provider, capability))
        able = tuple(
            known.id
            for known in self.models.values()
            if known.provider == provider and capability in known.capabilities and not _ended(known, today)
        )
        if model is None or model.provider != provider or capability not in model.capabilities:
            raise ValidationFailed([FieldProblem("model", "not_allowed", allowed=able)])
        if _ended(model, today):
            raise ValidationFailed([FieldProblem("model", "model_ended", allowed=able, hint=model.successor)])
        return model

    def _default(self, provider: str, capability: Capability) -> str:
        info = self.providers[provider]
        return (info.text_model or "") if capability is Capability.TEXT else info.default_model


def load_catalog(
    override: Path, *, default_models: Mapping[str, str], text_models: Mapping[str, str] | None = None
) -> Catalog:
    """Read the catalog. `default_models` and `text_models` (provider to model) come from settings.

    Raises CatalogError.
    """
    text = resources.files("services.providers").joinpath("catalog.toml").read_text(encoding="utf-8")
    data = _merge(tomllib.loads(text), _operators(override))
    try:
        content = _Content.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        raise CatalogError(f"{override}: {problems}") from error
    for problem in _contradictions(content):
        raise CatalogError(f"{override}: {problem}")
    providers = {
        name: ProviderInfo(
            name=name,
            **{
                **dict(entry),
                "default_model": default_models.get(name, entry.default_model),
                "text_model": (text_models or {}).get(name, entry.text_model),
            },
        )
        for name, entry in content.providers.items()
    }
    models = {name: Model(id=name, **dict(entry)) for name, entry in content.models.items()}
    for name, provider in providers.items():
        _check_default(provider, models, where=f"{name.upper()}_IMAGE_MODEL" if name in default_models else override)
        if provider.text_model is not None:
            in_settings = text_models is not None and name in text_models
            _check_text_model(provider, models, where=f"{name.upper()}_TEXT_MODEL" if in_settings else override)
    return Catalog(providers, models)


def _operators(override: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(override.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CatalogError(f"{override}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{override}: {error}") from error


def _contradictions(content: _Content) -> Iterator[str]:
    """What fits its type, but not the rest."""
    owners = {name: name for name in content.models}
    for name, model in content.models.items():
        if model.provider not in content.providers:
            yield f"models.{name}.provider: no such provider; known: {', '.join(content.providers)}"
        if model.capabilities != {Capability.TEXT}:
            for field in ("aspect_ratios", "resolutions"):
                if not getattr(model, field):
                    yield f"models.{name}.{field}: none, and it makes images"
        missing = [resolution for resolution in model.resolutions if resolution not in model.prices]
        if missing:
            yield f"models.{name}.prices: none for {', '.join(missing)}"
        for alias in model.aliases:
            if owners.setdefault(alias, name) != name:
                yield f"models.{name}.aliases: {alias} is {owners[alias]}'s name already"


def _check_default(provider: ProviderInfo, models: Mapping[str, Model], where: object) -> None:
    """Without it each request that names no model would be refused for a mistake of the operator's."""
    able = _able(provider, models, Capability.TEXT_TO_IMAGE)
    if provider.default_model not in able:
        known = ", ".join(dict.fromkeys(able.values()))
        raise CatalogError(f"{where}: {provider.name} has no image model {provider.default_model!r}; known: {known}")


def _check_text_model(provider: ProviderInfo, models: Mapping[str, Model], where: object) -> None:
    able = _able(provider, models, Capability.TEXT)
    if provider.text_model not in able:
        known = ", ".join(dict.fromkeys(able.values()))
        raise CatalogError(f"{where}: {provider.name} has no text model {provider.text_model!r}; known: {known}")


def _able(provider: ProviderInfo, models: Mapping[str, Model], capability: Capability) -> dict[str, str]:
    """By each of its names the id of a provider's model that can do this."""
    return {
        name: model.id
        for model in models.values()
        if model.provider == provider.name and capability in model.capabilities
        for name in (model.id, *model.aliases)
    }


def _ended(model: Model, today: date) -> bool:
    return model.ends_on is not None and today > model.ends_on


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
