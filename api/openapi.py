"""What FastAPI leaves out of the OpenAPI document, or says otherwise than we answer."""

from collections.abc import Iterator
from typing import Any, get_args

from fastapi import FastAPI

from api.examples import EXAMPLES
from api.schemas.admin_moderation import CheckDecision, CheckLayer
from api.schemas.admin_tasks import WaitsFor
from api.schemas.chat import ChatExportFormat, ChatMessageBody, MessageRole
from api.schemas.common import WithImages
from api.schemas.generate import BlendBody, BlendMode, EstimatedMode
from api.schemas.history import Mode
from api.schemas.prompts import DescribeBody
from api.schemas.quota import CheckedMode, CheckedResolution, QuotaRefusal
from api.schemas.tasks import ItemStatus, TaskKindName
from api.token_transport import TokenCarrier
from services.accounts.models import Role, Scope
from services.health import Status
from services.history.models import Match, Sort
from services.prompts.instructions import Kind
from services.prompts.models import Language
from services.providers.base import SafetyLevel
from services.tasks.events import TaskStatus
from services.tasks.webhooks import WebhookState

Node = dict[str, Any]

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

# Bodies with images in them, by the beginning of their names: handlers read these themselves, so FastAPI does not know
# of them.
BODIES_WITH_IMAGES: dict[str, type[WithImages]] = {"Blend": BlendBody, "ChatMessage": ChatMessageBody}


def body_with_images(name: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a body of BODIES_WITH_IMAGES."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{name}Body"}},
                "multipart/form-data": {
                    "schema": {"$ref": f"#/components/schemas/{name}Form"},
                    "encoding": {"images": {"contentType": "image/jpeg, image/png, image/webp, image/gif"}},
                },
            },
        }
    }


# Likewise.
DESCRIBE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/DescribeBody"}},
            "multipart/form-data": {
                "schema": {"$ref": "#/components/schemas/DescribeForm"},
                "encoding": {"image": {"contentType": "image/jpeg, image/png, image/webp, image/gif"}},
            },
        },
    }
}

TAGS = {
    "auth": "signing in, staying signed in, signing out",
    "generate": "making images",
    "chat": "refining an image in several turns",
    "history": "what the caller made",
    "images": "the bytes of an image, by a signed link or as its owner",
    "prompts": "prompts to start from: the library, one's own, and what the text model writes",
    "quota": "what the caller may still make today",
    "tasks": "what takes long: starting, watching and stopping it",
    "admin": "what admins see and change",
    "system": "health, metrics, words",
}

# Sets of values by the name that their component has, and so their type in a generated client.
ENUMERATIONS: dict[str, Any] = {
    "BlendMode": BlendMode,
    "ChatExportFormat": ChatExportFormat,
    "EstimatedMode": EstimatedMode,
    "HealthStatus": Status,
    "HistoryMode": Mode,
    "ModerationDecision": CheckDecision,
    "ModerationLayer": CheckLayer,
    "ItemStatus": ItemStatus,
    "HistorySort": Sort,
    "MessageRole": MessageRole,
    "Language": Language,
    "SearchMatch": Match,
    "QuotaMode": CheckedMode,
    "QuotaRefusal": QuotaRefusal,
    "QuotaResolution": CheckedResolution,
    "Role": Role,
    "SafetyLevel": SafetyLevel,
    "Scope": Scope,
    "TaskKind": TaskKindName,
    "TaskStatus": TaskStatus,
    "TaskWaitsFor": WaitsFor,
    "TokenCarrier": TokenCarrier,
    "VariationKind": Kind,
    "WebhookState": WebhookState,
}


def describe(app: FastAPI) -> None:
    """Complete the document once, when it is first asked for."""
    app.description = DESCRIPTION.strip()
    app.openapi_tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    build = app.openapi

    def openapi() -> Node:
        if app.openapi_schema is None:
            document = build()
            document["components"]["schemas"] |= dict(_schemas_with_images()) | _describe_schemas()
            _without_fastapis_own_errors(document)
            _with_headers(document)
            _with_whole_answers(document)
            _without_null_parameters(document)
            _with_named_enumerations(document)
            for name, example in EXAMPLES.items():
                document["components"]["schemas"][name]["example"] = example
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _schemas_with_images() -> Iterator[tuple[str, Node]]:
    """Each body as JSON, and as a form, which has files where the JSON has texts."""
    for name, model in BODIES_WITH_IMAGES.items():
        as_form = model.model_json_schema()
        as_form["title"] = f"{name}Form"
        as_form["properties"]["images"]["items"] = {"type": "string", "format": "binary"}
        as_form["properties"]["images"]["description"] = "files: JPEG PNG WebP GIF; a model may take fewer than 14"
        as_form["example"] = as_form["example"] | {"images": ["(the bytes of a file)", "(the bytes of another)"]}
        yield f"{name}Body", model.model_json_schema()
        yield as_form["title"], as_form


def _describe_schemas() -> Node:
    as_json, as_form = DescribeBody.model_json_schema(), DescribeBody.model_json_schema()
    as_form["title"] = "DescribeForm"
    as_form["properties"]["image"] |= {"format": "binary", "description": "a file: JPEG PNG WebP GIF"}
    as_form["example"] = {"image": "(the bytes of a file)"}
    return {"DescribeBody": as_json, "DescribeForm": as_form}


def _without_fastapis_own_errors(document: Node) -> None:
    """Our handler answers in place of FastAPI's, so its error models describe nothing."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operation in _operations(document):
        response = operation["responses"].get("422", {})
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/HTTPValidationError"):
            operation["responses"]["422"] = {
                "description": "`VALIDATION_ERROR`",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
            }


def _with_headers(document: Node) -> None:
    """What every answer carries; what asks to wait; what tells of a limit on the routes that count requests."""
    document["components"]["headers"] = {name: {**header, "required": True} for name, (_, header) in HEADERS.items()}
    for operation in _operations(document):
        responses = operation["responses"]
        for status, response in responses.items():
            names = ["RequestId"]
            if status in {"429", "503"}:
                names.append("RetryAfter")
            if "429" in responses and status in {"200", "429"}:
                names += ["RateLimitPolicy", "RateLimit"]
            response["headers"] = {HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in names}


def _with_whole_answers(document: Node) -> None:
    """Answers leave no field out: what there is not is null. Pydantic takes a default for leave to do so."""
    answers, bodies = set[str](), set[str]()
    for operation in _operations(document):
        answers |= _schemas_below(document, operation["responses"])
        bodies |= _schemas_below(document, operation.get("requestBody", {}))
    for name in answers - bodies:
        schema = document["components"]["schemas"][name]
        if "properties" in schema:
            schema["required"] = list(schema["properties"])


def _without_null_parameters(document: Node) -> None:
    """A query field or a header is left out, and never null."""
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            match [choice for choice in parameter["schema"].get("anyOf", ()) if choice != {"type": "null"}]:
                case [single]:
                    del parameter["schema"]["anyOf"]
                    parameter["schema"] |= single


def _with_named_enumerations(document: Node) -> None:
    names = {get_args(values): name for name, values in ENUMERATIONS.items()}
    for node in list(_nodes(document)):
        if name := names.get(tuple(node.get("enum", ()))):
            del node["enum"], node["type"]
            node["$ref"] = f"#/components/schemas/{name}"
    for name, values in ENUMERATIONS.items():
        document["components"]["schemas"][name] = {"type": "string", "enum": list(get_args(values))}


def _operations(document: Node) -> Iterator[Node]:
    return (operation for path in document["paths"].values() for operation in path.values())


def _nodes(value: Any) -> Iterator[Node]:
    """Every object in a value, however deep."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _nodes(below)


def _schemas_below(document: Node, value: Any) -> set[str]:
    """Names of the schemas that a part of the document leads to."""
    found, waiting = set[str](), [value]
    while waiting:
        references = {node["$ref"] for node in _nodes(waiting.pop()) if "$ref" in node}
        names = {reference.rpartition("/")[2] for reference in references if "/schemas/" in reference} - found
        found |= names
        waiting += [document["components"]["schemas"][name] for name in names]
    return found
