"""What hangs on a request or on the app, with its type.

What FastAPI calls as a dependency is async: it would send a plain function to a thread.
"""

from fastapi import Request
from starlette.types import Scope

from i18n.translate import Translations
from services.container import Container


def services_of(request: Request) -> Container:
    container: Container = request.app.state.container
    return container


async def container_of(request: Request) -> Container:
    return services_of(request)


def translations_of(request: Request) -> Translations:
    translations: Translations = request.app.state.translations
    return translations


def request_id_of(request: Request) -> str:
    return scope_request_id(request.scope)


def scope_request_id(scope: Scope) -> str:
    """Set by the outermost middleware before anything else runs."""
    request_id: str = scope["state"]["request_id"]
    return request_id
