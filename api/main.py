"""The app: middleware, routers, lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api.errors import install_error_handlers
from api.middleware.body_limit import BODY_SECONDS, BodyLimit
from api.middleware.defects import DefectNet
from api.middleware.request_context import RequestContext
from api.middleware.response_headers import ResponseHeaders
from api.openapi import describe
from api.routers import (
    account,
    admin,
    auth,
    batch,
    chat,
    generate,
    history,
    images,
    prompts,
    quota,
    service_keys,
    sign_in,
    system,
    task_events,
    tasks,
)
from api.routers.pages import add_pages
from api.routing import add_routes
from core.metrics import Metrics
from core.settings import Settings
from i18n.translate import Translations
from services.container import VERSION, open_container

ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Request-ID",
    "X-Token-Transport",
    "Idempotency-Key",
    "Prefer",
    "Last-Event-ID",
)
EXPOSED_HEADERS = (
    "X-Request-ID",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Deprecation",
    "Sunset",
    "Idempotency-Replayed",
    "Preference-Applied",
    "X-Task-ID",
    "ETag",
    "Content-Range",
    "Content-Disposition",
)


# In the order in which they are asked for most: a request is matched against one after the other.
ROUTERS = (
    quota.reads,
    history.reads,
    generate.router,
    chat.router,
    tasks.router,
    task_events.router,
    batch.router,
    history.router,
    images.router,
    prompts.router,
    quota.router,
    auth.router,
    sign_in.router,
    account.router,
    service_keys.router,
    admin.router,
    system.router,
)


def create_app(settings: Settings, metrics: Metrics, *, body_seconds: float = BODY_SECONDS) -> FastAPI:
    """Build the app; its parts are opened when the server starts it. `body_seconds`: see `BodyLimit`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_container(settings, metrics) as container:
            app.state.container = container
            await container.local_accounts.offer_setup_token()
            yield

    app = FastAPI(
        title="Nano Banana Lab",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.server.shows_docs else None,
        debug=False,
        # Our own metrics stand in /metrics; asking whether OpenTelemetry has been set up costs each request a bit.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.is_closing = False
    app.state.translations = Translations(settings.defaults.default_language)
    install_error_handlers(app)
    for router in ROUTERS:
        add_routes(app, router)
    add_pages(app, with_docs=settings.server.shows_docs)
    describe(app)
    _add_middleware(app, settings, metrics, body_seconds)
    return app


def _add_middleware(app: FastAPI, settings: Settings, metrics: Metrics, body_seconds: float) -> None:
    """The last one added is the outermost."""
    app.add_middleware(BodyLimit, max_bytes=settings.server.max_request_bytes, body_seconds=body_seconds)
    app.add_middleware(DefectNet)
    if settings.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.server.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            # For the cookie of the refresh token; only ever with origins that are named.
            allow_credentials=True,
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(ResponseHeaders, public_bucket_url=settings.storage.public_bucket_url)
    app.add_middleware(RequestContext, metrics=metrics)
