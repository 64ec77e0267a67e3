"""The OpenAPI document is complete, and says what the service does."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from api.main import create_app
from benchmarks.gemini_standin import GeminiStandin
from core.metrics import Metrics
from core.settings import load_settings
from tests.conftest import OpenService
from tests.support.answers import error_of
from tests.support.service import RunningService
from tests.tasks.workers import working

METHODS = {"get", "put", "post", "delete", "patch"}
PARAMETER = re.compile(r"\{(\w+)\}")
# Python's own and the ones of TypeScript that a generated method could not be called.
RESERVED = {"delete", "import", "class", "return", "in", "new", "export", "default", "from"}

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}

# Tried without a guest's token, which would make the guest somebody else.
SIGN_INS = {"begin_github_login", "finish_github_login", "register", "login"}
# What the example of a body gives, if not 200: a refresh token that was never given out, GitHub not set up, no admin,
# no image x.
OF_EXAMPLES = {
    "create_service_key": 403,  # guests have none
    "refresh_tokens": 401,
    "begin_github_login": 403,
    "finish_github_login": 403,
    "register": 201,
    "change_user": 403,
    "mark_favorite": 404,
    "generate_batch": 202,
    "start_generation": 202,
    "retry_task": 404,
    "create_chat": 201,
    "send_message": 404,
    "keep_prompt": 201,
    "change_prompt": 404,
    "mark_favorite_prompt": 404,
    **dict.fromkeys(("generate_prompts", "enhance_prompt", "vary_prompt", "describe_image"), 400),  # no Google key
}
ENDS = {("/api/history/all", "delete"): 1, ("/api/auth/logout", "post"): 2, ("/api/auth/me", "delete"): 3}

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(load_settings({"REDIS_URL": "redis://nowhere"}), Metrics()).openapi()


@pytest.fixture
async def working_service(open_service: OpenService, gemini: GeminiStandin) -> AsyncIterator[RunningService]:
    """With a worker, so that what is watched ends, and without an operator's key; a caller's own is asked for at the
    stand-in.
    """
    service = await open_service(GOOGLE_GEMINI_BASE_URL=gemini.url, TRIAL_GUEST_SHARE="1")
    async with working(service):
        yield service


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    found = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    assert len(found) >= 23
    return found


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = pointed_at(document, schema["$ref"])
    return schema


def pointed_at(document: dict[str, Any], reference: str) -> dict[str, Any]:
    assert reference.startswith("#/"), reference
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    assert isinstance(found, dict)
    return found


def misfits(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str = "") -> list[str]:
    """Where a value is not what a schema says, as far as our schemas say anything."""
    schema = resolve(document, schema)
    kind = schema.get("type")
    if "anyOf" in schema:
        tried = [misfits(document, choice, value, where) for choice in schema["anyOf"]]
        return [] if [] in tried else min(tried, key=len)
    if "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return [] if value in allowed else [f"{where}: {value!r} is none of {allowed}"]
    if kind is None:
        return []
    if not _is(kind, value):
        return [f"{where}: {value!r} is no {kind}"]
    if kind == "array":
        return [
            line for i, item in enumerate(value) for line in misfits(document, schema["items"], item, f"{where}.{i}")
        ]
    return _object_misfits(document, schema, value, where) if kind == "object" else []


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _object_misfits(document: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], where: str) -> list[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", not schema.get("properties"))
    found = [f"{where}: no {name}" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        if name in properties:
            found += misfits(document, properties[name], item, f"{where}.{name}")
        elif not others:
            found.append(f"{where}: {name} is not in the document")
        elif isinstance(others, dict):
            found += misfits(document, others, item, f"{where}.{name}")
    return found


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


async def test_the_document_is_served_as_openapi_3_1(service: RunningService, document: dict[str, Any]) -> None:
    response = await service.client.get("/openapi.json")
    assert response.status_code == 200
    assert response.json() == document
    assert document["openapi"].startswith("3.1.")
    assert set(document["info"]) >= {"title", "version", "description"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)]
    assert len(references) > 30
    for reference in references:
        assert pointed_at(document, reference)


def test_no_schema_lies_there_unused(document: dict[str, Any]) -> None:
    used = {node["$ref"].rpartition("/")[2] for node in walk(document) if isinstance(node.get("$ref"), str)}
    assert set(document["components"]["schemas"]) - used == set()


def test_every_operation_says_what_it_is(document: dict[str, Any], operations: list[Operation]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    assert all(tag["description"] for tag in document["tags"])
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert len(operation["tags"]) == 1, where
        assert set(operation["tags"]) <= tags, where


def test_operation_ids_make_good_method_names(operations: list[Operation]) -> None:
    ids = Counter(operation["operationId"] for _, _, operation in operations)
    assert [name for name, count in ids.items() if count > 1] == []
    for name in ids:
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name), name
        assert len(name) <= 30
        assert name not in RESERVED


def test_path_parameters_are_declared(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        declared = [entry["name"] for entry in operation.get("parameters", ()) if entry["in"] == "path"]
        assert declared == PARAMETER.findall(path), f"{method} {path}"
        names = Counter((entry["in"], entry["name"]) for entry in operation.get("parameters", ()))
        assert set(names.values()) <= {1}


def test_every_answer_is_described(document: dict[str, Any], operations: list[Operation]) -> None:
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert any(status.startswith("2") for status in operation["responses"]), where
        for status, response in operation["responses"].items():
            assert response["description"], f"{where} {status}"
            content = response.get("content", {})
            if not status.startswith("2") and status != "304" and path != "/api/health/ready":
                schema = content["application/json"]["schema"]
                assert schema["$ref"].endswith("/ErrorResponse"), f"{where} {status}"
            if status == "200":
                assert content, where


def test_every_operation_lists_the_errors_it_can_give(operations: list[Operation]) -> None:
    for path, method, operation in operations:
        where, statuses = f"{method} {path}", set(operation["responses"])
        assert {"422", "500", "503"} <= statuses, where
        if "requestBody" in operation:
            assert "413" in statuses, where
        if "{" in path:
            assert "404" in statuses, where
        if "security" in operation:
            assert "401" in statuses, where
            assert "429" in statuses or path.startswith("/api/images"), where
        for status, response in operation["responses"].items():
            if status[0] in "45" and path != "/api/health/ready":
                assert re.search(r"`[A-Z_]+`", response["description"]), f"{where} {status}"


def test_both_ways_of_signing_in_are_there(document: dict[str, Any], operations: list[Operation]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["type"] == "http"
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["ownKey"]["type"], schemes["ownKey"]["in"], schemes["ownKey"]["name"]) == (
        "apiKey",
        "header",
        "X-API-Key",
    )
    ways: dict[str, Any] = {path: operation.get("security") for path, _, operation in operations}
    assert ways["/api/generate/basic"] == [{"bearer": []}, {"ownKey": []}]
    assert ways["/api/history"] == ways["/api/quota"] == [{"bearer": []}]
    assert {} in ways["/api/images/{image_id}"]
    assert ways["/api/auth/config"] is None


async def test_what_needs_a_token_by_the_document_needs_it(
    service: RunningService, document: dict[str, Any], operations: list[Operation]
) -> None:
    for path, method, operation in operations:
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        example = resolve(document, body["schema"])["example"] if body else None
        response = await service.client.request(method, PARAMETER.sub("en", path), json=example)
        if "security" in operation and {} not in operation["security"]:
            error_of(response, 401, "UNAUTHORIZED")
        else:
            assert response.status_code in {200, 201, 401, 403}, f"{method} {path}"


async def test_the_example_of_every_body_is_taken(
    working_service: RunningService, document: dict[str, Any], operations: list[Operation]
) -> None:
    service = working_service
    guest = await service.guest()
    bodies = 0
    for path, method, operation in operations:
        if "requestBody" not in operation:
            continue
        bodies += 1
        example = resolve(document, operation["requestBody"]["content"]["application/json"]["schema"])["example"]
        client = service.client if operation["operationId"] in SIGN_INS else guest.client
        response = await client.request(method, PARAMETER.sub("x", path), json=example)
        assert response.status_code == OF_EXAMPLES.get(operation["operationId"], 200), response.text
    assert bodies >= 10


def test_every_json_answer_has_an_example(document: dict[str, Any], operations: list[Operation]) -> None:
    without = [
        f"{method} {path} {status}"
        for path, method, operation in operations
        for status, response in operation["responses"].items()
        if (content := response.get("content", {}).get("application/json")) is not None
        and "example" not in content
        and "example" not in resolve(document, content["schema"])
    ]
    assert without == []


def test_examples_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    found = {name: schema for name, schema in document["components"]["schemas"].items() if "example" in schema}
    assert len(found) >= 15
    for name, schema in found.items():
        assert misfits(document, {"$ref": f"#/components/schemas/{name}"}, schema["example"]) == [], name
        # Nothing may be left out that an answer can have.
        if name.endswith(("Read", "Read_")):
            assert set(schema["example"]) == set(schema["properties"]), name


async def test_answers_are_what_the_document_says(
    working_service: RunningService, document: dict[str, Any], operations: list[Operation]
) -> None:
    service = working_service
    guest = await service.guest()
    made = await guest.image(include_base64=True)
    values = {"image_id": made["history_id"], "lang": "en", "session_id": "ses_nothing", "user_id": "usr_nothing"}
    values["key_id"] = "key_nothing"
    values["task_id"] = "task_nothing"
    values["chat_id"] = (await guest.client.post("/api/chat/sessions", json={})).json()["session_id"]
    kept = {"title": "Mine", "prompt": "a lighthouse", "category": "art"}
    values["prompt_id"] = (await guest.client.post("/api/prompts", json=kept)).json()["id"]
    checked = 0
    # What ends the image, all of them, the account or the session comes last.
    for path, method, operation in sorted(operations, key=lambda entry: (ENDS.get(entry[:2], 0), entry[1] == "delete")):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        example = resolve(document, body["schema"])["example"] if body else None
        url = PARAMETER.sub(lambda match: str(values[match[1]]), path)
        client = service.client if operation["operationId"] in SIGN_INS else guest.client
        response = await client.request(method, url, json=example)
        described = operation["responses"][str(response.status_code)]
        if response.headers["content-type"] == "application/json":
            schema = described["content"]["application/json"]["schema"]
            assert misfits(document, schema, response.json()) == [], f"{method} {path}"
            checked += 1
        else:
            assert described["content"], f"{method} {path}"
    assert checked >= 30


def test_objects_declare_what_they_require(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert "type" in schema or "anyOf" in schema, name
        assert set(schema.get("required", ())) <= set(schema.get("properties", ())), name
        if name.endswith("Body") and name != "ErrorBody":
            assert schema["additionalProperties"] is False, name


def below(document: dict[str, Any], node: Any) -> set[str]:
    """References to the schemas that a part of the document leads to."""
    direct = {inner["$ref"] for inner in walk(node) if "/schemas/" in inner.get("$ref", "")}
    return direct.union(*(below(document, pointed_at(document, reference)) for reference in direct))


def test_answers_leave_no_field_out(document: dict[str, Any], operations: list[Operation]) -> None:
    """A generated client would take each of these for absent at times."""
    answers = below(document, [operation["responses"] for _, _, operation in operations])
    assert len(answers) >= 20
    for reference in answers:
        schema = pointed_at(document, reference)
        assert set(schema.get("properties", ())) == set(schema.get("required", ())), reference


def test_what_a_body_may_leave_out_is_not_required(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["BasicBody"]["required"] == ["prompt"]


def test_no_parameter_can_be_null(operations: list[Operation]) -> None:
    parameters = [entry for _, _, operation in operations for entry in operation.get("parameters", ())]
    assert sum(not entry["required"] for entry in parameters) >= 10
    assert [entry["name"] for entry in parameters if "null" in str(entry["schema"])] == []


def test_enumerations_have_names(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    named = [schema["enum"] for schema in schemas.values() if "enum" in schema]
    assert [node["enum"] for node in walk(document) if "enum" in node and node["enum"] not in named] == []
    assert schemas["Role"]["enum"] == ["guest", "user", "admin"]
    assert schemas["UserRead"]["properties"]["role"]["$ref"] == "#/components/schemas/Role"
    assert {"$ref": "#/components/schemas/SafetyLevel"} in schemas["BasicBody"]["properties"]["safety_level"]["anyOf"]
