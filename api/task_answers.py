"""How routes answer with a task."""

import time
from dataclasses import replace

from fastapi import Request, Response

from api.context import services_of
from api.errors import error_body
from api.prefer import APPLIED
from api.schemas.common import Envelope
from api.schemas.tasks import TaskStartedRead, View
from core.errors import AppError, FieldProblem, Unauthorized, ValidationFailed
from services.accounts.models import Caller
from services.generation.models import GenerationCommand
from services.tasks.image_order import typical_seconds
from services.tasks.models import Submitted, Task
from services.tasks.streams import Notice

ACCEPTED = 202
TASK_ID = "X-Task-ID"


def view_of(request: Request, base_url: str) -> View:
    return View(services_of(request).links, base_url, lambda error: error_body(request, error))


def milliseconds_since(started: float) -> int:
    """`started` by time.perf_counter()."""
    return round((time.perf_counter() - started) * 1000)


def replay_headers(submitted: Submitted) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if submitted.replayed else {}


def started_read(request: Request, submitted: Submitted, base_url: str) -> TaskStartedRead:
    side_by_side = services_of(request).settings.tasks.batch_concurrency
    return TaskStartedRead.of(submitted.task, base_url, typical_seconds(submitted.task), side_by_side)


def accepted_notice(started: TaskStartedRead, task: Task) -> Notice:
    """What is told first to whoever starts a task and watches it: no part of its history, so a heartbeat."""
    data = started.model_dump(exclude={"task_id"})
    return Notice(None, "heartbeat", task.progress, "accepted", data=data)


def for_later(command: GenerationCommand) -> tuple[GenerationCommand, Caller]:
    """A command that was sent to be waited for, as one for a task, and whose it is.

    Raises Unauthorized for nobody's, and ValidationFailed for one that wants the bytes in the answer; the files of its
    references are gone then.
    """
    try:
        if command.caller is None:
            raise Unauthorized
        if command.include_bytes:
            raise ValidationFailed([FieldProblem("include_base64", "not_for_tasks")])
    except AppError:
        for reference in command.references:
            reference.remove()
        raise
    key = command.idempotency
    if key is not None:
        # The same key with and without waiting is two requests.
        key = replace(key, fingerprint=f"{key.fingerprint}:async")
    return replace(command, idempotency=key), command.caller


def started_answer(request: Request, submitted: Submitted, base_url: str, began: float) -> Response:
    """For a route whose usual answer is another one."""
    body = Envelope[TaskStartedRead](
        data=started_read(request, submitted, base_url), execution_time_ms=milliseconds_since(began)
    )
    headers = {**replay_headers(submitted), **APPLIED}
    return Response(body.model_dump_json(), ACCEPTED, headers, media_type="application/json")
