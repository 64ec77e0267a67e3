"""The page, and the documentation of the API without any file from elsewhere."""

from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from api.routing import Router, add_routes

WEB = Path(__file__).resolve().parents[2] / "web"


def add_pages(app: FastAPI, *, with_docs: bool) -> None:
    router = Router(include_in_schema=False)
    router.add_api_route("/", _page("index.html"), methods=["GET", "HEAD"])
    if with_docs:
        router.add_api_route("/docs", _page("docs.html"), methods=["GET", "HEAD"])
        # The wheel brings Swagger UI's own files, so that /docs works without the internet.
        viewer = Path(str(resources.files("fastapi_offline"))) / "static"
        app.mount("/docs-assets", StaticFiles(directory=viewer), name="docs-assets")
    add_routes(app, router)
    app.mount("/assets", StaticFiles(directory=WEB / "assets"), name="assets")


def _page(name: str) -> Callable[[], Awaitable[FileResponse]]:
    async def page() -> FileResponse:
        return FileResponse(WEB / name, media_type="text/html", headers={"cache-control": "no-cache"})

    return page
