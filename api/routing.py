"""How routes come into the app."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute


class Router(APIRouter):
    """A generated client names its methods after the handlers' own names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=_name_of, **options)


def _name_of(route: APIRoute) -> str:
    return route.name


def add_routes(app: FastAPI, router: Router) -> None:
    """As they are.

    FastAPI's own `include_router` lets an app add prefixes, dependencies and more to a router's routes. Ours adds
    nothing, and would pay with each route built twice, 3.5 MB of a process, and matched twice (docs/adr/0005).
    """
    app.router.routes.extend(router.routes)
