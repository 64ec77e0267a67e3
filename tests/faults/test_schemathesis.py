"""Schemathesis against the running service, signed in: no answer that the OpenAPI document does not describe."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from api.schemas.generate import EXAMPLE_IMAGES
from benchmarks.gemini_standin import GeminiStandin
from tests.accounts.test_service_keys import made
from tests.chat.talking import begin as begin_chat
from tests.clients.test_url_guard import PUBLIC
from tests.conftest import OPERATOR_KEY, OpenService
from tests.prompts.asking import MINE, kept
from tests.support.github import GitHubStandin, Person, github_settings
from tests.support.people import PASSWORD, begin, registered, with_github
from tests.support.service import RunningService
from tests.tasks.workers import cancel, submit, submit_batch, working

Operation = APIOperation[Any, Any, Any, Any]

EXAMPLES, SOAK_EXAMPLES = 5, 100  # of one operation
HELD = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection", "allow_header_conformance",
)  # fmt: skip
# Their schema is of the whole stream; Schemathesis holds each event against it.
STREAMS = {"watch_task", "execute_generation"}
# What answers only when a worker has done the work; other tasks are to wait for whoever cancels them.
WORKED_ON = {"execute_generation"}
ADMINS = {"list_users", "change_user", "list_all_tasks", "list_moderation"}
ACCOUNTS = {"list_service_keys", "create_service_key", "revoke_service_key"}
ROOT = Person(4711, "root")
NUMBERS = itertools.count(1)
NO_LIMITS = {
    "RATE_LIMIT_REQUESTS": "1000000",
    "GUEST_RATE_PER_HOUR": "1000000",
    "LOGIN_RATE_PER_MINUTE": "1000000",
    "TRIAL_GLOBAL_QUOTA": "1000000",
    "TRIAL_GUEST_SHARE": "1",
    "TRIAL_BASIC_1K_LIMIT": "1000000",
    "TRIAL_BASIC_4K_LIMIT": "1000000",
    "TRIAL_SEARCH_LIMIT": "1000000",
    "TRIAL_BLEND_LIMIT": "1000000",
    "TRIAL_CHAT_LIMIT": "1000000",
    "TRIAL_BATCH_1K_LIMIT": "1000000",
    "TRIAL_BATCH_4K_LIMIT": "1000000",
    "TRIAL_TEXT_LIMIT": "1000000",
}


def operation_id(operation: Operation) -> str:
    return str(operation.definition.raw["operationId"])


@dataclass(frozen=True)
class Known:
    """What a generator would not come upon: the caller's token, an image and a session of theirs, a body that works."""

    token: str
    ids: dict[str, str]
    bodies: dict[str, Any]

    def cases(self, operation: Operation) -> SearchStrategy[Case[Any]]:
        body = self.bodies.get(operation_id(operation))
        return operation.as_strategy(
            GenerationMode.POSITIVE,
            path_parameters={name: value for name, value in self.ids.items() if f"{{{name}}}" in operation.path},
            **({} if body is None else {"body": body, "media_type": "application/json"}),
        )


def fuzz(operation: Operation, known: Known, examples: int) -> Counter[int]:
    """Statuses that were answered. Raises what the checks find, with the request that shows it."""
    left_out = {"response_schema_conformance"} if operation_id(operation) in STREAMS else set[str]()
    checks: Any = [CHECKS.get_one(name) for name in HELD if name not in left_out]
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {known.token}"

        def ask(case: Case[Any]) -> None:
            seen[case.call_and_validate(session=session, checks=checks).status_code] += 1

        for_each(known.cases(operation), examples // 5, ask)
        for_each(operation.as_strategy(GenerationMode.POSITIVE), examples * 2 // 5, ask)
        with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing cannot be called wrongly
            for_each(operation.as_strategy(GenerationMode.NEGATIVE), examples * 2 // 5, ask)
    assert seen[200] + seen[201] + seen[202], f"{operation.label}: nothing but refusals: {seen}"
    return seen


def for_each(cases: SearchStrategy[Case[Any]], count: int, ask: Callable[[Case[Any]], None]) -> None:
    """Always the same cases: hypothesis derives its seed from this function."""

    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def run(case: Case[Any]) -> None:
        ask(case)

    run()


def load(url: str) -> list[Operation]:
    load_all_checks()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # The token is the guest's; a made-up one would end most requests at the door.
    schema.config.generation.update(with_security_parameters=False)
    found = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), f"schemathesis cannot read an operation: {result}"
        found.append(result.ok())
    return found


async def know(service: RunningService, github: GitHubStandin, name: str) -> Known:
    number = next(NUMBERS)
    guest = await service.guest()
    body = {"email": f"user{number}@example.org", "password": PASSWORD}
    user = await registered(service, body["email"])
    if name in ADMINS:
        guest = await with_github(service, github, ROOT)
    elif name in ACCOUNTS:
        guest = user
    key = await made(user)
    image = await guest.image()
    if name == "restore_image":
        await guest.client.delete(f"/api/history/{image['history_id']}")
    # Without a worker it would wait for ever, and whoever watches it too.
    told = {"callback_url": f"https://{PUBLIC}/"}
    task_id = await (submit(guest, fields=told) if name == "redeliver_task" else submit_batch(guest, 2))
    await cancel(guest, task_id)
    session, *_ = (await guest.client.get("/api/auth/sessions")).json()["sessions"]
    return Known(
        guest.tokens["access_token"],
        {
            "image_id": image["history_id"],
            "session_id": session["id"],
            "user_id": user.id,
            "lang": "zh",
            "key_id": key["id"],
            "task_id": task_id,
            "chat_id": await begin_chat(guest),
            "prompt_id": (await kept(guest))["id"],
        },
        {
            "refresh_tokens": {"refresh_token": guest.tokens["refresh_token"]},
            "generate_basic": {"prompt": "a lighthouse"},
            "generate_search": {"prompt": "a lighthouse"},
            "generate_blend": {"prompt": "a lighthouse", "images": list(EXAMPLE_IMAGES)},
            "create_chat": {},
            "send_message": {"message": "make it blue"},
            "generate_batch": {"prompt": "a lighthouse", "count": 2},
            "keep_prompt": MINE,
            "change_prompt": {"title": "Quay"},
            "generate_prompts": {"category": "food"},
            "enhance_prompt": {"prompt": "a lighthouse"},
            "vary_prompt": {"prompt": "a lighthouse"},
            "describe_image": {"image": EXAMPLE_IMAGES[0]},
            "create_service_key": {"name": "a program"},
            "start_generation": {"params": {"prompt": "a lighthouse"}},
            "execute_generation": {"params": {"prompt": "a lighthouse"}},
            "retry_task": {},
            "check_quota": {"mode": "basic"},
            "register": body | {"email": f"new{number}@example.org"},
            "login": body,
            "finish_github_login": await github_answer(service, github, number)
            if name == "finish_github_login"
            else {},
            "save_api_key": {"api_key": "AIzaKeyOfOneCallerAlone000000000000000000"},
            "change_user": {"blocked": True},
            "delete_images": {"ids": [image["history_id"]]},
            "export_history": {"ids": [image["history_id"]]},
        },
    )


async def github_answer(service: RunningService, github: GitHubStandin, number: int) -> dict[str, str]:
    code, state = github.approve((await begin(service))["redirect_url"], Person(number, "ada"))
    return {"code": code, "state": state}


async def test_no_5xx_and_no_undocumented_answer(
    open_service: OpenService, gemini: GeminiStandin, github: GitHubStandin, soak: bool
) -> None:
    """Each operation with a guest of its own, so that signing out ends nobody else's session."""
    gemini.configure(pixels=(8, 8))
    service = await open_service(
        GOOGLE_API_KEY=OPERATOR_KEY, GOOGLE_GEMINI_BASE_URL=gemini.url, ADMIN_LOGINS="root", **github_settings(github),
        **NO_LIMITS,
    )  # fmt: skip
    operations = await asyncio.to_thread(load, service.url)
    assert len(operations) >= 37
    failures: list[BaseException] = []
    for operation in operations:
        known = await know(service, github, operation_id(operation))
        try:
            async with working(service) if operation_id(operation) in WORKED_ON else contextlib.nullcontext():
                await asyncio.to_thread(fuzz, operation, known, SOAK_EXAMPLES if soak else EXAMPLES)
        except (AssertionError, FailureGroup) as error:
            failures.append(error)
    if failures:
        raise BaseExceptionGroup("answers that the document does not describe", failures)
