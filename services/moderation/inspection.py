"""A prompt on its way through the layers: whatever becomes of it, its check has one entry in the audit."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from services.moderation.errors import ContentBlocked
from services.moderation.models import AI_LAYER, Decision, ModerationCheck

Classify = Callable[[ModerationCheck], Awaitable[ModerationCheck]]
Finish = Callable[[ModerationCheck], Coroutine[Any, Any, None]]


class Inspection:
    """`classify` once the points are held, `end` when the work is over.

    The entry is written beside the work: at once when no layer is to come (`ask` None), else when the last has spoken.
    """

    def __init__(self, check: ModerationCheck, ask: Classify | None, finish: Finish) -> None:
        self._check = check
        self._ask = ask
        self._finish = finish
        self._writing: asyncio.Task[None] | None = None
        if ask is None:
            self._write()

    @property
    def is_over(self) -> bool:
        """No layer is still to speak."""
        return self._writing is not None or self._ask is None

    async def classify(self) -> None:
        """Layer 2, where there is one. Raises ContentBlocked with the category."""
        if self._ask is None:
            return
        self._check = await self._ask(self._check)
        self._write()
        if self._check.decision is Decision.BLOCKED:
            category = self._check.layers[-1].category
            raise ContentBlocked(f"{self._check.id}: {category}", reason=AI_LAYER, category=category)

    async def end(self) -> None:
        """The entry is written when this returns."""
        self._write()
        if self._writing is not None:
            await self._writing

    def _write(self) -> None:
        if self._writing is None and self._check.layers:
            self._writing = asyncio.create_task(self._finish(self._check))
