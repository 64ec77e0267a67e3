"""The floor: the least that a service can do for an image, or for a signed-in read, under our own server settings.

`POST /floor/generate` is a bare Starlette route: prompt upstream with httpx, orjson, base64, one file, small JSON.
`GET /floor/jwt` is a bare FastAPI route that checks an HS256 token with python-jose, `POST /floor/row` one that writes
a row into SQLite. None knows users or quotas.
"""

import argparse
import asyncio
import base64
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import httpx
import orjson
import pybase64
import uvicorn
from boto3.session import Session
from botocore.config import Config
from fastapi import FastAPI, Header, HTTPException
from jose import JWTError, jwt
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

DECODERS: dict[str, Callable[[str], bytes]] = {"base64": base64.b64decode, "pybase64": pybase64.b64decode}
_SECRET = "the-floor-signs-and-checks-its-own-tokens"
_MODEL = "gemini-3-pro-image"
_JSON = "application/json"


class FloorSettings(TypedDict):
    """`upstream` is the base URL of the API, `folder` where images go, `decoder` a name of DECODERS. `s3`: the endpoint
    of a bucket that they are put into as well, or empty.
    """

    upstream: str
    folder: str
    decoder: str
    s3: str


def sign(claims: dict[str, Any]) -> str:
    """A token that `/floor/jwt` takes, with the same claims as one of ours so that checking costs the same."""
    return jwt.encode(claims, _SECRET, algorithm="HS256")


def _floor_routes(settings: FloorSettings) -> ASGIApp:
    decode = DECODERS[settings["decoder"]]
    folder = Path(settings["folder"])
    bucket = _bucket(settings["s3"]) if settings["s3"] else None
    url = f"{settings['upstream']}/v1beta/models/{_MODEL}:generateContent"

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        headers = {"x-goog-api-key": "benchmark-key", "content-type": _JSON}
        async with httpx.AsyncClient(limits=limits, headers=headers, timeout=300) as app.state.client:
            yield

    async def generate(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        image_config = {"aspectRatio": asked["aspect_ratio"], "imageSize": asked.get("resolution", "1K")}
        body = {
            "contents": [{"role": "user", "parts": [{"text": asked["prompt"]}]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": image_config},
        }
        answered = await request.app.state.client.post(url, content=orjson.dumps(body))
        if answered.status_code != 200:
            return Response(status_code=502)
        inline = orjson.loads(answered.content)["candidates"][0]["content"]["parts"][0]["inlineData"]
        image = decode(inline["data"])
        path = folder / f"{uuid4().hex}.png"
        # On the loop: a hop to a thread and back would cost more CPU than the write does.
        _write(path, image)
        if bucket is not None:
            put = partial(bucket.put_object, Bucket="floor", Key=path.name, Body=image, ContentType="image/png")
            await asyncio.to_thread(put)
        answer = {"path": path.name, "mime_type": inline["mimeType"], "size": len(image)}
        return Response(orjson.dumps(answer), media_type=_JSON)

    async def health(request: Request) -> Response:
        return Response(b'{"status":"healthy"}', media_type=_JSON)

    routes = [Route("/floor/generate", generate, methods=["POST"]), Route("/floor/health", health)]
    return Starlette(routes=routes, lifespan=lifespan)


def _bucket(endpoint: str) -> Any:
    """boto3 as fast as its own settings make it."""
    return Session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="benchmark",
        aws_secret_access_key="benchmark",
        region_name="auto",
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            max_pool_connections=50,
        ),
    )


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _jwt_route() -> ASGIApp:
    app = FastAPI()

    @app.get("/floor/jwt")
    async def check(authorization: Annotated[str, Header()]) -> dict[str, str]:
        try:
            claims = jwt.decode(
                authorization.removeprefix("Bearer "), _SECRET, algorithms=["HS256"], options={"verify_aud": False}
            )
        except JWTError as refused:
            raise HTTPException(401) from refused
        return {"sub": claims["sub"]}

    return app


class _Params(BaseModel):
    prompt: str
    aspect_ratio: str


class _Asked(BaseModel):
    params: _Params


def _row_route(folder: Path) -> ASGIApp:
    """The row is written on the event loop: with nothing else to do, a thread would cost more than it."""
    app = FastAPI()
    database = sqlite3.connect(folder / "rows.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, params TEXT)")

    @app.post("/floor/row", status_code=202)
    async def write(asked: _Asked) -> dict[str, str]:
        row_id = uuid4().hex
        database.execute("INSERT INTO rows VALUES (?, ?)", (row_id, asked.params.model_dump_json()))
        return {"id": row_id}

    return app


def create_app() -> ASGIApp:
    """The applications side by side, so that no route pays for another's middleware."""
    settings: FloorSettings = orjson.loads(os.environ["FLOOR_SETTINGS"])
    floor = _floor_routes(settings)
    apart = {"/floor/jwt": _jwt_route(), "/floor/row": _row_route(Path(settings["folder"]))}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await apart.get(scope.get("path", ""), floor)(scope, receive, send)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="base URL of the Gemini API")
    parser.add_argument("--folder", type=Path, required=True, help="where the images go")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--decoder", choices=sorted(DECODERS), default="base64")
    parser.add_argument("--s3", default="", help="endpoint of a bucket to put the images into as well")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    settings = FloorSettings(
        upstream=arguments.upstream, folder=str(arguments.folder), decoder=arguments.decoder, s3=arguments.s3
    )
    # Through the environment, because with several workers uvicorn builds the application in new processes.
    os.environ["FLOOR_SETTINGS"] = orjson.dumps(settings).decode()
    uvicorn.run(
        "benchmarks.floor:create_app",
        factory=True,
        host="127.0.0.1",
        port=arguments.port,
        workers=arguments.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
