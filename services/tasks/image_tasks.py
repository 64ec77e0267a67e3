"""Accepting a task that makes images: all is checked, and its points are held, before anybody is told that it is on."""

from dataclasses import replace

from pydantic import SecretStr

from core.clock import Milliseconds, now_ms
from core.errors import AppError, DependencyUnavailable
from services.accounts.models import Caller
from services.generation.drafts import quota_identity
from services.generation.models import Accepted, GenerationCommand
from services.generation.shares import ShareService
from services.idempotency import Call, IdempotencyKey, IdempotencyService
from services.providers.errors import ApiKeyRequired
from services.quota.models import Reservation, mode_key
from services.quota.task_quota import TaskQuota
from services.tasks.errors import ReferencesGone
from services.tasks.image_order import ImageOrder
from services.tasks.models import Submitted, Task, TaskRequest
from services.tasks.references import KEPT_MS, TaskReferences
from services.tasks.service import TaskService
from services.webhooks.models import WebhookTarget
from services.webhooks.service import WebhookService


class ImageTasks:
    """`guest_kept_ms`: how long what a guest made is kept."""

    def __init__(
        self,
        tasks: TaskService,
        shares: ShareService,
        quota: TaskQuota,
        references: TaskReferences,
        webhooks: WebhookService,
        idempotency: IdempotencyService,
        *,
        guest_kept_ms: Milliseconds,
    ) -> None:
        self._tasks = tasks
        self._shares = shares
        self._quota = quota
        self._references = references
        self._webhooks = webhooks
        self._idempotency = idempotency
        self._guest_kept_ms = guest_kept_ms

    async def submit(
        self,
        command: GenerationCommand,
        caller: Caller,
        *,
        kind: str,
        count: int = 1,
        client_job_id: str | None = None,
        key_id: str | None = None,
        webhook: WebhookTarget | None = None,
    ) -> Submitted:
        """Accept a task of `count` images. Raises what generating one would before the provider is asked, Conflict and
        IdempotencyMismatch, and ValidationFailed for a `webhook` that is not to be. The files of its references are
        gone then.
        """
        try:
            async with self._tasks.claim(command.idempotency) as claim:
                if claim.made is not None:
                    return Submitted(claim.made, replayed=True)
                if webhook is not None:
                    await self._webhooks.check(webhook)
                accepted = await self._shares.accept(command)
                reservation = await self._reserved(claim.task_id, 1, command, caller, accepted, count)
                request = TaskRequest(
                    task_id=claim.task_id,
                    user_id=caller.user_id,
                    kind=kind,
                    params=ImageOrder.of(command, caller, accepted).as_params(),
                    total=count,
                    reservation=reservation,
                    own_key=command.own_key if accepted.uses_own_key else None,
                    reference_count=len(command.references),
                    client_job_id=client_job_id,
                    key_id=key_id,
                    webhook=webhook,
                    expires_at=now_ms() + self._guest_kept_ms if caller.role == "guest" else None,
                )
                return Submitted(await self._created(request, reservation, command))
        finally:
            for reference in command.references:
                reference.remove()

    async def retry(
        self, caller: Caller, task_id: str, own_key: SecretStr | None, key: IdempotencyKey | None
    ) -> Submitted:
        """A new round of a failed or cancelled task, of the images that are missing, on points that are held anew; once
        under one Idempotency-Key.

        Raises NotFound, WrongState, ReferencesGone, ApiKeyRequired for a task on the caller's own key without one, and
        what `submit` does.
        """
        if key is None:
            return Submitted(await self._retried(caller, task_id, own_key))
        async with self._idempotency.claim(key) as call:
            task = await self._tasks.get(caller.user_id, task_id)
            if call.state == "done" or (call.state == "resumed" and _goes_on_since(task, call)):
                return Submitted(task, replayed=True)
            return Submitted(await self._retried(caller, task_id, own_key))

    async def _retried(self, caller: Caller, task_id: str, own_key: SecretStr | None) -> Task:
        task = await self._tasks.ended(caller.user_id, task_id)
        order = ImageOrder.on(task)
        if order.references and (not task.reference_count or (task.completed_at or 0) < now_ms() - KEPT_MS):
            raise ReferencesGone
        if order.uses_own_key and own_key is None:
            raise ApiKeyRequired(order.provider)
        command = replace(order.command(caller.user_id, own_key if order.uses_own_key else None), caller=caller)
        references = await self._references.fetch(task.id, order.references)
        try:
            accepted = await self._shares.accept(replace(command, references=references))
        finally:
            for reference in references:
                reference.remove()
        count = len(task.missing)
        reservation = await self._reserved(task.id, task.round + 1, command, caller, accepted, count)
        try:
            return await self._tasks.retry(task, reservation, command.own_key)
        except DependencyUnavailable:
            raise  # it may stand all the same; else its points go back by themselves
        except AppError:
            await self._quota.release(reservation)
            raise

    async def _reserved(
        self, task_id: str, round_: int, command: GenerationCommand, caller: Caller, accepted: Accepted, count: int
    ) -> Reservation:
        identity = quota_identity(caller)
        if not accepted.is_metered:
            return self._quota.unmetered(identity, count, task_id=task_id, round_=round_)
        mode = mode_key(command.mode, command.resolution)
        return await self._quota.reserve(identity, mode, count, task_id=task_id, round_=round_)

    async def _created(self, request: TaskRequest, reservation: Reservation, command: GenerationCommand) -> Task:
        try:
            if command.references:
                kept = await self._references.keep(request.task_id, command.references)
                request = replace(request, params={**request.params, "references": kept})
            return await self._tasks.create(request)
        except DependencyUnavailable:
            raise  # it may stand all the same; else its points go back by themselves
        except AppError:
            await self._quota.release(reservation)
            raise


def _goes_on_since(task: Task, call: Call) -> bool:
    """Whether a call that broke off had begun the new round: none has ended before it, or one after it."""
    return task.completed_at is None or task.completed_at >= call.started_at
