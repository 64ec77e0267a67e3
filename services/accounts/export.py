"""All that somebody has here, for themselves: the account, and the history with its images."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.clock import now_ms
from services.accounts.models import Caller
from services.archive import ZipStream, whole
from services.chat.export import ChatExport
from services.chat.export import Describe as DescribeChat
from services.history.export import Describe, HistoryExport
from services.history.models import HistoryFilter
from services.history.service import HistoryService

ACCOUNT = "account.json"


class AccountExport:
    def __init__(self, history: HistoryService, images: HistoryExport, chats: ChatExport) -> None:
        self._history = history
        self._images = images
        self._chats = chats

    async def stream(
        self, caller: Caller, account: bytes, describe: Describe, describe_chat: DescribeChat
    ) -> AsyncGenerator[bytes]:
        """A zip, made while it is sent. `account`: what the caller is shown of their account, as JSON."""
        archive = ZipStream()
        images = self._history.iterate(caller.user_id, HistoryFilter())
        for added in (
            archive.file(ACCOUNT, now_ms(), whole(account), size=len(account)),
            self._chats.add_all(archive, caller, describe_chat),
            self._images.add_to(archive, images, describe),
        ):
            async with aclosing(added) as parts:
                async for part in parts:
                    yield part
        yield archive.end()
