"""Tokens for the query of an address, since a browser's EventSource sends no header: each reads one task's events."""

from core.clock import Milliseconds
from core.security import LinkSigner
from services.tasks.events import KEPT_SECONDS, TaskReader


class EventTokens:
    """`{user id}.{end, seconds since 1970}.{signature}`."""

    def __init__(self, signer: LinkSigner, tasks: TaskReader) -> None:
        self.signer = signer
        self._tasks = tasks

    async def issue(self, user_id: str, task_id: str, now: Milliseconds) -> tuple[str, Milliseconds]:
        """A token, and when it ends. Raises NotFound for a task that is not there, or not theirs."""
        await self._tasks.snapshot(user_id, task_id)
        expires_at = now // 1000 + KEPT_SECONDS
        return f"{user_id}.{expires_at}.{self.signer.sign(_subject(user_id, task_id), expires_at)}", expires_at * 1000

    async def reader(self, token: str, task_id: str, now: Milliseconds) -> str | None:
        """Whose task may be read with it; None when it is for another task, over, or none of ours.

        The task may be another's by now than when it was issued: a guest's who has signed in. Raises NotFound.
        """
        user_id, _, rest = token.partition(".")
        end, _, signature = rest.partition(".")
        if not (end.isascii() and end.isdigit() and len(end) <= len(str(now))):
            return None
        signed = self.signer.verify(_subject(user_id, task_id), int(end), signature)
        return await self._tasks.owner(task_id) if signed and int(end) * 1000 > now else None


def _subject(user_id: str, task_id: str) -> str:
    return f"{task_id}:{user_id}"
