"""All that somebody has here, for themselves: the account, and the history with its images."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.clock import now_ms
from services.accounts.models import Caller
from services.archive import ZipStream
from services.history.export import Describe, HistoryExport
from services.history.models import HistoryFilter
from services.history.service import HistoryService

ACCOUNT = "account.json"


class AccountExport:
    def __init__(self, history: HistoryService, images: HistoryExport) -> None:
        self._history = history
        self._images = images

    async def stream(self, caller: Caller, account: bytes, describe: Describe) -> AsyncGenerator[bytes]:
        """A zip, made while it is sent. `account`: what the caller is shown of their account, as JSON."""
        archive = ZipStream()
        async with aclosing(archive.file(ACCOUNT, now_ms(), _whole(account), size=len(account))) as parts:
            async for part in parts:
                yield part
        images = self._history.iterate(caller.user_id, HistoryFilter())
        async with aclosing(self._images.add_to(archive, images, describe)) as parts:
            async for part in parts:
                yield part
        yield archive.end()


async def _whole(content: bytes) -> AsyncGenerator[bytes]:
    yield content
