"""All that somebody has here, for themselves: the account, prompts, and the history with its images."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from core.clock import now_ms
from services.accounts.models import Caller
from services.archive import ZipStream, whole
from services.chat.export import ChatExport
from services.chat.export import Describe as DescribeChat
from services.history.export import Describe, HistoryExport
from services.history.models import HistoryFilter
from services.history.service import HistoryService


class AccountExport:
    def __init__(self, history: HistoryService, images: HistoryExport, chats: ChatExport) -> None:
        self._history = history
        self._images = images
        self._chats = chats

    async def stream(
        self, caller: Caller, files: Mapping[str, bytes], describe: Describe, describe_chat: DescribeChat
    ) -> AsyncGenerator[bytes]:
        """A zip, made while it is sent. `files`: what the caller is shown elsewhere, by the name that it has here."""
        archive = ZipStream()
        images = self._history.iterate(caller.user_id, HistoryFilter())
        for added in (
            *(archive.file(name, now_ms(), whole(content), size=len(content)) for name, content in files.items()),
            self._chats.add_all(archive, caller, describe_chat),
            self._images.add_to(archive, images, describe),
        ):
            async with aclosing(added) as parts:
                async for part in parts:
                    yield part
        yield archive.end()
