"""A chat as a file: JSON, Markdown with links, or a zip with the images, made while it is sent."""

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from core.clock import Milliseconds, now_ms, rfc3339
from core.errors import NotFound
from services.accounts.models import Caller
from services.archive import ZipStream, opened, whole
from services.chat.models import Conversation, Turn
from services.chat.objects import ChatObjects
from services.chat.service import ChatService
from services.chat.titles import UNTITLED
from services.history.models import Image
from services.storage.base import Storage
from services.storage.names import EXTENSIONS

LIST_PAGE = 100
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")

LinkOf = Callable[[Image], str]
Describe = Callable[[Conversation], Mapping[str, Any]]


class ChatExport:
    """`Describe` gives what the API says of a chat, as JSON takes it; `LinkOf` an image's link."""

    def __init__(self, chats: ChatService, objects: ChatObjects, storage: Storage) -> None:
        self._chats = chats
        self._objects = objects
        self._storage = storage

    async def json(self, talk: Conversation, describe: Describe) -> AsyncGenerator[bytes]:
        """What `GET` of the chat answers, and when that was; its messages one after the other."""
        said = dict(describe(talk))
        messages = said.pop("messages")
        yield orjson.dumps({"exported_at": rfc3339(now_ms()), **said})[:-1] + b',"messages":['
        for number, message in enumerate(messages):
            yield (b",\n" if number else b"\n") + orjson.dumps(message)
        yield b"\n]}\n"

    async def markdown(self, talk: Conversation, link_of: LinkOf) -> AsyncGenerator[bytes]:
        """The links in it end as all links do; the title says when it was written."""
        yield f"# {_plain(talk.chat.title or UNTITLED)}\n\n{rfc3339(now_ms())}\n".encode()
        for turn in talk.turns:
            image = talk.images.get(turn.image_id)
            picture = "*This image was deleted.*" if image is None else f"![{image.id}]({link_of(image)})"
            attached = f"\n\n*With {len(turn.attachments)} image(s).*" if turn.attachments else ""
            said = f"\n\n{_plain(turn.content)}" if turn.content else ""
            yield (
                f"\n## User · {rfc3339(turn.asked_at)}\n\n{_plain(turn.prompt)}{attached}\n"
                f"\n## Assistant · {rfc3339(turn.answered_at)}{said}\n\n{picture}\n"
            ).encode()

    async def zip(self, talk: Conversation, describe: Describe) -> AsyncGenerator[bytes]:
        archive = ZipStream()
        async with aclosing(self._add(archive, "", talk, describe, with_answers=True)) as parts:
            async for part in parts:
                yield part
        yield archive.end()

    async def add_all(self, archive: ZipStream, caller: Caller, describe: Describe) -> AsyncGenerator[bytes]:
        """The part of a zip that holds all chats of somebody, with what came with their messages. The images of the
        answers are their history's.
        """
        offset = 0
        while True:
            page, _ = await self._chats.page(caller, LIST_PAGE, offset)
            for chat in page.items:
                try:
                    talk = await self._chats.read(caller, chat.id)
                except NotFound:
                    continue  # deleted meanwhile
                folder = f"chats/{chat.id}/"
                async with aclosing(self._add(archive, folder, talk, describe, with_answers=False)) as parts:
                    async for part in parts:
                        yield part
            offset += LIST_PAGE
            if not page.has_more:
                return

    async def _add(
        self, archive: ZipStream, folder: str, talk: Conversation, describe: Describe, *, with_answers: bool
    ) -> AsyncGenerator[bytes]:
        async with aclosing(self.json(talk, describe)) as parts:
            text = b"".join([part async for part in parts])
        entries = [_Entry(f"{folder}chat.json", now_ms(), len(text), whole(text))]
        for index, turn in enumerate(talk.turns):
            entries += self._attachments(folder, index, talk.chat.id, turn)
            image = talk.images.get(turn.image_id)
            if with_answers and image is not None:
                name = f"{folder}images/{index:03}_{image.id}.{EXTENSIONS[image.mime_type]}"
                entries.append(_Entry(name, image.created_at, image.size, self._storage.stream(image.key)))
        for entry in entries:
            content = await opened(entry.pieces)
            if content is None:
                continue
            async with aclosing(archive.file(entry.name, entry.modified_at, content, size=entry.size)) as parts:
                async for part in parts:
                    yield part

    def _attachments(self, folder: str, index: int, chat_id: str, turn: Turn) -> Iterator["_Entry"]:
        for number, kept in enumerate(turn.attachments):
            name = f"{folder}attachments/{index:03}_{number:02}.{EXTENSIONS[kept.mime_type]}"
            yield _Entry(name, turn.asked_at, kept.size, self._objects.open_attachment(chat_id, turn, number))


@dataclass(frozen=True)
class _Entry:
    """A file of a zip. `size` in bytes."""

    name: str
    modified_at: Milliseconds
    size: int
    pieces: AsyncGenerator[bytes]


def _plain(text: str) -> str:
    """As text that Markdown does not take for anything else: what a model says must fetch nothing."""
    return _MARKDOWN.sub(r"\\\1", text)
