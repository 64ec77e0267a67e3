"""Which provider, model and key a request gets, and the call itself with its retries."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar

from prometheus_client import Histogram
from pydantic import SecretStr

from core.errors import FieldProblem, ValidationFailed
from core.logging import get_logger
from core.metrics import Metrics
from services.providers.base import Capability, ImageRequest, ImageResult, Model, Provider, TextProvider, TextRequest
from services.providers.catalog import Catalog
from services.providers.errors import ApiKeyRequired, ProviderError, ProviderTimeout
from services.providers.retry import RetryPolicy, call_with_retries

CHECK_SECONDS = 15
TEXT_KEY_HINT = "send your own Google key in X-API-Key; for everybody the operator sets GOOGLE_API_KEY"

log = get_logger(__name__)

Result = TypeVar("Result")
KeySource = Literal["request", "operator", "none"]


@dataclass(frozen=True)
class Route:
    """What was chosen for a call when it was accepted. `key_source` `none`: the provider needs no key."""

    provider: Provider
    model: Model
    api_key: SecretStr | None
    key_source: KeySource


@dataclass(frozen=True)
class TextRoute:
    """The same for a call of a text model, which always has a key."""

    provider: TextProvider
    model: Model
    api_key: SecretStr
    key_source: KeySource


@dataclass(frozen=True)
class Estimate:
    """In `currency`, for `count` images."""

    unit_cost: float
    total_cost: float
    currency: str = "USD"


class ProviderService:
    """`writer` is the provider whose text model is used; `operator_keys` by provider name; `first_pause_seconds` is the
    pause before the first retry.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        writer: TextProvider,
        catalog: Catalog,
        operator_keys: Mapping[str, SecretStr],
        metrics: Metrics,
        *,
        total_seconds: float,
        first_pause_seconds: float = 2.0,
    ) -> None:
        self._providers = providers
        self._writer = writer
        self._catalog = catalog
        self._operator_keys = operator_keys
        self._metrics = metrics
        self._total_seconds = total_seconds
        self._first_pause_seconds = first_pause_seconds

    @property
    def default_name(self) -> str:
        """Gemini once there is a key for it, else the demo, which anyone can try."""
        return "gemini" if "gemini" in self._operator_keys or "demo" not in self._providers else "demo"

    def _default_for(self, has_own_key: bool) -> str:
        """An own key is Google's."""
        return "gemini" if has_own_key else self.default_name

    def route(
        self,
        capability: Capability,
        *,
        provider: str | None,
        model: str | None,
        own_key: SecretStr | None,
        operator_key_allowed: bool,
    ) -> Route:
        """Choose for a call.

        Raises ValidationFailed (unknown provider or model, with those there are) or ApiKeyRequired.
        """
        name = provider or self._default_for(own_key is not None)
        chosen = self._providers.get(name)
        if chosen is None:
            raise ValidationFailed([FieldProblem("provider", "not_allowed", allowed=tuple(self._providers))])
        found = self._catalog.find(name, model, capability, datetime.now(UTC).date())
        if not chosen.needs_key:
            if not operator_key_allowed:
                raise ApiKeyRequired(name)
            return Route(chosen, found, None, "none")
        if own_key is not None:
            return Route(chosen, found, own_key, "request")
        operator_key = self._operator_keys.get(name)
        if operator_key is None or not operator_key_allowed:
            raise ApiKeyRequired(name)
        return Route(chosen, found, operator_key, "operator")

    def route_text(self, *, own_key: SecretStr | None, operator_key_allowed: bool) -> TextRoute:
        """Choose for a call of the text model. Raises ApiKeyRequired: without a key nothing writes."""
        name = self._writer.name
        model = self._catalog.find(name, None, Capability.TEXT, datetime.now(UTC).date())
        if own_key is not None:
            return TextRoute(self._writer, model, own_key, "request")
        operator_key = self._operator_keys.get(name)
        if operator_key is None or not operator_key_allowed:
            raise ApiKeyRequired(name, TEXT_KEY_HINT)
        return TextRoute(self._writer, model, operator_key, "operator")

    @property
    def has_text_model(self) -> bool:
        """Whether the operator has a key for the text model."""
        return self._writer.name in self._operator_keys

    @property
    def has_trial(self) -> bool:
        """Whether anything can be made without an own key."""
        return bool(self._operator_keys) or any(not provider.needs_key for provider in self._providers.values())

    def model(self, capability: Capability, *, provider: str | None, model: str | None, has_own_key: bool) -> Model:
        """The model that a call would get. Raises ValidationFailed."""
        name = provider or self._default_for(has_own_key)
        if name not in self._providers:
            raise ValidationFailed([FieldProblem("provider", "not_allowed", allowed=tuple(self._providers))])
        return self._catalog.find(name, model, capability, datetime.now(UTC).date())

    def estimate(
        self,
        capability: Capability,
        *,
        provider: str | None,
        model: str | None,
        resolution: str,
        count: int,
        has_own_key: bool,
    ) -> Estimate:
        """The price by the catalog. Raises ValidationFailed for what the model cannot do."""
        found = self.model(capability, provider=provider, model=model, has_own_key=has_own_key)
        if resolution not in found.resolutions:
            raise ValidationFailed([FieldProblem("resolution", "not_supported", allowed=found.resolutions)])
        price = found.prices[resolution]
        return Estimate(unit_cost=price, total_cost=round(price * count, 6))

    async def make_image(self, route: Route, request: ImageRequest) -> ImageResult:
        """Raises ProviderError, after the retries, or ContentBlocked."""
        return await self._call(
            route, lambda: route.provider.make_image(request), self._total_seconds, self._metrics.provider_seconds
        )

    async def write_text(self, route: TextRoute, request: TextRequest, *, total_seconds: float | None = None) -> str:
        """Raises as `make_image`. `total_seconds`: for all tries together, REQUEST_TIMEOUT_SECONDS unless said."""
        total = self._total_seconds if total_seconds is None else total_seconds
        return await self._call(route, lambda: route.provider.write_text(request), total, self._metrics.text_seconds)

    async def probe(self, name: str) -> dict[str, bool]:
        """Ask a provider, with the operator's key, whether it answers. `configured` False: there is no such key."""
        key = self._operator_keys.get(name)
        if key is None:
            return {"configured": False}
        model = self._catalog.find(name, None, Capability.TEXT_TO_IMAGE, datetime.now(UTC).date())
        await self._providers[name].probe(model, key)
        return {"configured": True}

    async def check_key(self, name: str, key: SecretStr) -> None:
        """Ask a provider, at no cost, whether it takes this key. Raises InvalidApiKey or another ProviderError."""
        model = self._catalog.find(name, None, Capability.TEXT_TO_IMAGE, datetime.now(UTC).date())
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._providers[name].probe(model, key)
        except TimeoutError as error:
            raise ProviderTimeout(f"no answer within {CHECK_SECONDS} s") from error

    async def close(self) -> None:
        for provider in self._providers.values():
            await provider.close()

    async def _call(
        self, route: Route | TextRoute, call: Callable[[], Awaitable[Result]], total_seconds: float, seconds: Histogram
    ) -> Result:
        info = self._catalog.providers[route.provider.name]
        policy = RetryPolicy(info.timeout_seconds, total_seconds, info.max_retries, self._first_pause_seconds)

        def on_retry(error: ProviderError) -> None:
            self._metrics.provider_retries.labels(info.name, error.type).inc()
            log.info("provider call is tried again", provider=info.name, code=error.code, reason=str(error))

        started = time.perf_counter()
        try:
            return await call_with_retries(call, policy, on_retry)
        except ProviderError as error:
            # A caller is told the code alone; whether the operator's key is to blame only the operator can see.
            log.warning(
                "provider call failed", provider=info.name, code=error.code, reason=str(error), key=route.key_source
            )
            raise
        finally:
            seconds.labels(info.name).observe(time.perf_counter() - started)
