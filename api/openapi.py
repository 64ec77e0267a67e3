"""What FastAPI leaves out of the OpenAPI document, or says otherwise than we answer."""

from typing import Any

from fastapi import FastAPI

from api.examples import EXAMPLES
from api.schemas.generate import BlendBody

DESCRIPTION = """
Image generation for many people. Sign in as a guest with `POST /api/auth/guest`, then send the access token as
`Authorization: Bearer …`; or bring your own Google key in `X-API-Key`. Every error has the shape of `ErrorResponse`,
with its message in English or Chinese by `Accept-Language`.
"""

# The headers of answers, each by the name that its component has in the document.
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RequestId": (
        "X-Request-ID",
        {"description": "the caller's, if it is sane, else ours", "schema": {"type": "string", "minLength": 1}},
    ),
    "RetryAfter": (
        "Retry-After",
        {"description": "seconds after which trying again makes sense", "schema": {"type": "integer", "minimum": 0}},
    ),
    "RateLimitPolicy": (
        "RateLimit-Policy",
        {"description": "the limit and its window", "schema": {"type": "string", "pattern": r'^"\w+";q=\d+;w=\d+$'}},
    ),
    "RateLimit": (
        "RateLimit",
        {"description": "what is left of it", "schema": {"type": "string", "pattern": r'^"\w+";r=\d+;t=\d+$'}},
    ),
}

# The handler reads this body itself, so FastAPI does not know of it.
BLEND_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/BlendBody"}},
            "multipart/form-data": {
                "schema": {"$ref": "#/components/schemas/BlendForm"},
                "encoding": {"images": {"contentType": "image/jpeg, image/png, image/webp, image/gif"}},
            },
        },
    }
}

TAGS = {
    "auth": "signing in, staying signed in, signing out",
    "generate": "making images",
    "history": "what the caller made",
    "images": "the bytes of an image, by a signed link or as its owner",
    "quota": "what the caller may still make today",
    "system": "health, metrics, words",
}


def describe(app: FastAPI) -> None:
    """Complete the document once, when it is first asked for."""
    app.description = DESCRIPTION.strip()
    app.openapi_tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = build()
            document["components"]["schemas"] |= _blend_schemas()
            _without_fastapis_own_errors(document)
            _with_headers(document)
            for name, example in EXAMPLES.items():
                document["components"]["schemas"][name]["example"] = example
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _blend_schemas() -> dict[str, Any]:
    """The body as JSON, and as a form, which has files where the JSON has texts."""
    as_json, as_form = BlendBody.model_json_schema(), BlendBody.model_json_schema()
    as_form["title"] = "BlendForm"
    as_form["properties"]["images"]["items"] = {"type": "string", "format": "binary"}
    as_form["properties"]["images"]["description"] = "files: JPEG PNG WebP GIF; a model may take fewer than 14"
    as_form["example"] = as_form["example"] | {"images": ["(the bytes of a file)", "(the bytes of another)"]}
    return {"BlendBody": as_json, "BlendForm": as_form}


def _without_fastapis_own_errors(document: dict[str, Any]) -> None:
    """Our handler answers in place of FastAPI's, so its error models describe nothing."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            response = operation["responses"].get("422", {})
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            if schema.get("$ref", "").endswith("/HTTPValidationError"):
                operation["responses"]["422"] = {
                    "description": "`VALIDATION_ERROR`",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
                }


def _with_headers(document: dict[str, Any]) -> None:
    """What every answer carries; what asks to wait; what tells of a limit on the routes that count requests."""
    document["components"]["headers"] = {name: {**header, "required": True} for name, (_, header) in HEADERS.items()}
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            for status, response in responses.items():
                names = ["RequestId"]
                if status in {"429", "503"}:
                    names.append("RetryAfter")
                if "429" in responses and status in {"200", "429"}:
                    names += ["RateLimitPolicy", "RateLimit"]
                response["headers"] = {HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in names}
