"""What a turn is made from besides its message: the turns before it, out of Redis and storage, within the budget."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from redis.exceptions import RedisError

from core.clock import now_ms
from core.ids import new_id
from core.logging import get_logger
from services.chat.budget import Given, Plan, Slot, plan
from services.chat.models import Attachment, Begun, Conversation, LeftOut, MarkedPart, Message, Turn
from services.chat.objects import ChatObjects
from services.chat.store import ChatStore
from services.providers.base import AnswerPart, EarlierTurn, Model
from services.references.models import ReferenceImage
from services.storage.spool import Spool

log = get_logger(__name__)


class Context:
    """Of one turn, whose files are gone after `remove`."""

    def __init__(
        self, store: ChatStore, objects: ChatObjects, spool: Spool, talk: Conversation, message: Message
    ) -> None:
        self._store = store
        self._objects = objects
        self._spool = spool
        self._talk = talk
        self._turn_id = new_id("turn")
        self._asked_at = now_ms()
        self._prompt = message.prompt
        self._attachments = tuple(_attachment(reference) for reference in message.references)
        self._left_out = LeftOut()
        self._has_stored = False
        self._unkept: list[Path] = []
        self._files: list[Path] = []

    async def take_hold(self, references: Sequence[ReferenceImage]) -> None:
        """Of the files that came with the message, before the pipeline has them. Raises StorageUnavailable."""
        self._unkept = await self._objects.second_names(references)
        self._files += self._unkept

    async def prepare(self, model: Model, call_id: str) -> tuple[EarlierTurn, ...]:
        """Keep what came with the message, fetch what goes with it, and note in the chat that the turn is begun.

        Raises StorageUnavailable, or redis.exceptions.RedisError.
        """
        await self.keep()
        turns = self._talk.turns
        given = Given(len(self._attachments), sum(kept.size for kept in self._attachments), len(self._prompt.encode()))
        found = plan(turns, self._talk.images, given, model.max_references)
        self._left_out = found.left_out
        earlier = [await self._earlier(index, found, model) for index in range(found.first, len(turns))]
        await self._store.begin(self._talk.chat.id, self.begun(call_id))
        return tuple(earlier)

    def begun(self, call_id: str) -> Begun:
        return Begun(self._turn_id, call_id, self._prompt, self._asked_at, self._attachments, self._left_out)

    async def keep(self) -> None:
        """Store what came with the message, unless it is. Raises StorageUnavailable."""
        paths, self._unkept = self._unkept, []
        if paths:
            self._has_stored = True
            await self._objects.keep(self._talk.chat.id, self._turn_id, paths, self._attachments)

    async def keep_parts(self, parts: Sequence[AnswerPart]) -> tuple[MarkedPart, ...]:
        """Store what the answer has to be given back as; none when storage is away."""
        self._has_stored = True
        return await self._objects.keep_parts(self._talk.chat.id, self._turn_id, parts)

    async def undo(self) -> None:
        """Nothing stays of a turn that came to nothing."""
        chat_id = self._talk.chat.id
        try:
            await self._store.abandon(chat_id, self._turn_id)
        except RedisError as error:
            # Its image will not come, and the next turn takes its place.
            log.warning("a turn still stands as begun", chat_id=chat_id, reason=str(error))
        if self._has_stored:
            await self._objects.remove_turn(chat_id, self._turn_id)

    def remove(self) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    async def _earlier(self, index: int, found: Plan, model: Model) -> EarlierTurn:
        turn, chat_id = self._talk.turns[index], self._talk.chat.id
        references = [
            await self._objects.fetch_attachment(chat_id, turn, number, self._path())
            if Slot(index, number, kept.size) in found.slots
            else None
            for number, kept in enumerate(turn.attachments)
        ]
        return EarlierTurn(
            prompt=turn.prompt,
            references=tuple(references),
            said=turn.content,
            image=await self._image(index, turn, found),
            # Another model has no use for them.
            parts=await self._objects.fetch_parts(chat_id, turn, self._path()) if turn.model == model.id else (),
        )

    async def _image(self, index: int, turn: Turn, found: Plan) -> ReferenceImage | None:
        image = self._talk.images.get(turn.image_id)
        if image is None or Slot(index, None, image.size) not in found.slots:
            return None
        file = ReferenceImage(self._path(), image.mime_type, image.width, image.height, 1, image.size)
        fetched = await self._objects.fetch_image(image.key, file)
        if fetched is None:
            # It was removed for good just now.
            self._left_out = replace(self._left_out, gone=self._left_out.gone + 1)
        return fetched

    def _path(self) -> Path:
        path = self._spool.new_path()
        self._files.append(path)
        return path


def _attachment(reference: ReferenceImage) -> Attachment:
    return Attachment(reference.mime_type, reference.width, reference.height, reference.size)
