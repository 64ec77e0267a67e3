"""The providers of this installation, put together for the composition root."""

from contextlib import AsyncExitStack

import aiohttp
from pydantic import SecretStr

from core.settings import Settings, SettingsError
from services.ground import Ground
from services.providers.base import Provider
from services.providers.catalog import Catalog, load_catalog
from services.providers.demo.provider import DemoProvider
from services.providers.gemini import CONNECT_SECONDS, GeminiProvider
from services.providers.service import ProviderService

READ_BUFFER_BYTES = 64 * 1024


def read_catalog(settings: Settings) -> Catalog:
    """The models of this installation. Raises CatalogError, or SettingsError for defaults that its models refuse."""
    override = settings.storage.data_dir / "models.toml"
    asked = settings.providers
    catalog = load_catalog(
        override,
        default_models={"gemini": asked.gemini_image_model},
        text_models={"gemini": asked.gemini_text_model},
    )
    defaults, problems = settings.defaults, []
    for provider in catalog.providers.values():
        model = catalog.named(provider.default_model)
        if defaults.default_aspect_ratio not in model.aspect_ratios:
            problems.append(f"DEFAULT_ASPECT_RATIO: {model.id} takes {' '.join(model.aspect_ratios)}")
        if defaults.default_resolution not in model.resolutions:
            problems.append(f"DEFAULT_RESOLUTION: {model.id} takes {' '.join(model.resolutions)}")
    if problems:
        raise SettingsError(problems)
    return catalog


def open_providers(ground: Ground, stack: AsyncExitStack) -> ProviderService:
    """Raises as `read_catalog`. `stack` closes what is opened here."""
    settings = ground.settings
    catalog = read_catalog(settings)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        # What waits in memory for each of many answers at once, before the sender is told to wait.
        read_bufsize=READ_BUFFER_BYTES,
        # The time of a try is limited around the whole call; compression would cost more than an image in base64 saves.
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
        headers={"accept-encoding": "identity"},
    )
    gemini = GeminiProvider(settings.providers.google_gemini_base_url, session, ground.spool, ground.files)
    providers: dict[str, Provider] = {gemini.name: gemini}
    if settings.demo_enabled:
        demo = DemoProvider(ground.spool, ground.pixels)
        providers[demo.name] = demo
    operator_keys: dict[str, SecretStr] = {}
    if settings.providers.google_api_key is not None:
        operator_keys[gemini.name] = settings.providers.google_api_key
    service = ProviderService(
        providers, gemini, catalog, operator_keys, ground.metrics, total_seconds=settings.server.request_timeout_seconds
    )
    stack.push_async_callback(service.close)
    return service
