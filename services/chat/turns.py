"""Saying something in a chat: a turn is a call of the one pipeline with the turns before it (docs/adr/0015).

It joins the chat when its image is made, in one step, or not at all.
"""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clients.lease import Lease
from core.clock import now_ms
from core.errors import NotFound, StorageUnavailable
from core.logging import get_logger
from services.chat.context import Context
from services.chat.errors import ChatBusy, ChatFull
from services.chat.models import MAX_TURNS, Conversation, Message, Reply, Turn
from services.chat.objects import ChatObjects
from services.chat.service import LOCK, ChatService
from services.chat.store import ChatMoved, ChatStore
from services.generation.errors import ImagePending
from services.generation.models import Generated, GenerationCommand, PlaceInChat
from services.generation.service import GenerationService, StillWanted
from services.idempotency import IdempotencyService
from services.storage.spool import Spool

RESOLUTION = "1K"

log = get_logger(__name__)


class ChatTurns:
    def __init__(
        self,
        redis: Redis,
        chats: ChatService,
        store: ChatStore,
        objects: ChatObjects,
        spool: Spool,
        generation: GenerationService,
        idempotency: IdempotencyService,
    ) -> None:
        self._redis = redis
        self._chats = chats
        self._store = store
        self._objects = objects
        self._spool = spool
        self._generation = generation
        self._idempotency = idempotency
        self._running: set[asyncio.Task[Reply]] = set()

    async def say(self, message: Message, still_wanted: StillWanted) -> Reply:
        """Answer a message with an image. Raises NotFound, ChatBusy, ChatFull, and what the pipeline does; then the
        chat is as it was, but for ImagePending: then the turn joins it later.

        Once the provider was called the turn is finished even if whoever awaits this goes away.
        """
        task = asyncio.create_task(self._to_its_end(message, still_wanted))
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def drain(self, seconds: float) -> None:
        """At a stop of the process: wait for what is under way."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # Read here so that one whose client is gone does not complain at collection; the pipeline has counted it.
            log.debug("turn ended without an answer", reason=repr(task.exception()))

    async def _to_its_end(self, message: Message, still_wanted: StillWanted) -> Reply:
        try:
            # Another's chat must not be locked, and what was said before can be told while the chat is busy.
            found = self._said_before(message, await self._chats.read(message.caller, message.chat_id))
            return found or await self._alone(message, still_wanted)
        finally:
            for reference in message.references:
                reference.remove()

    async def _alone(self, message: Message, still_wanted: StillWanted) -> Reply:
        async with Lease(self._redis, LOCK(session_id=message.chat_id)).held() as is_mine:
            if not is_mine:
                raise ChatBusy
            talk = await self._chats.taken_up(message.caller, message.chat_id)
            found = self._said_before(message, talk)
            if found is not None:
                return found
            if len(talk.turns) >= MAX_TURNS:
                raise ChatFull(MAX_TURNS)
            context = Context(self._store, self._objects, self._spool, talk, message)
            try:
                return await self._turn(message, talk, context, still_wanted)
            finally:
                context.remove()

    def _said_before(self, message: Message, talk: Conversation) -> Reply | None:
        """The turn that an earlier request with this key and body has made."""
        if message.idempotency is None:
            return None
        call_ids = self._idempotency.candidates(message.idempotency)
        found = next((turn for turn in talk.turns if turn.call_id in call_ids), None)
        return None if found is None else Reply(found, talk.images.get(found.image_id), replayed=True)

    async def _turn(self, message: Message, talk: Conversation, context: Context, still_wanted: StillWanted) -> Reply:
        try:
            await context.take_hold(message.references)
            made = await self._generation.generate(self._command(message, talk, context), still_wanted)
        except ImagePending:
            raise  # the worker enters it, and then it joins the chat as that of a process that died
        except BaseException:
            await context.undo()
            raise
        try:
            return await self._joined(message, talk, context, made)
        except (NotFound, ChatBusy):
            await context.undo()
            raise
        except (RedisError, StorageUnavailable) as error:
            # The image is in the history, and the turn stands in the chat as begun.
            raise ImagePending(str(error)) from error

    async def _joined(self, message: Message, talk: Conversation, context: Context, made: Generated) -> Reply:
        image = made.image
        assert image is not None, "a chat is somebody's, so its images are kept"
        # An earlier try may have made the image, and then nothing was prepared.
        await context.keep()
        turn = Turn.of(context.begun(image.call_id), image, await context.keep_parts(made.parts), now_ms())
        try:
            await self._chats.append(message.caller, talk.chat, turn)
        except ChatMoved as error:
            # This process stood still for so long that another one has taken the chat over, and maybe this turn too.
            turns = await self._store.turns(message.chat_id)
            known = next((known for known in turns if known.image_id == image.id), None)
            if known is None:
                log.error("a turn came too late", chat_id=message.chat_id, image_id=image.id)
                raise ChatBusy from error
            turn = known
        return Reply(turn, image, made.lifecycle)

    def _command(self, message: Message, talk: Conversation, context: Context) -> GenerationCommand:
        return GenerationCommand(
            request_id=message.request_id,
            caller=message.caller,
            own_key=message.own_key,
            mode="chat",
            prompt=message.prompt,
            aspect_ratio=message.aspect_ratio or talk.chat.aspect_ratio,
            resolution=RESOLUTION,
            safety_level=message.safety_level,
            enable_thinking=message.enable_thinking,
            provider=message.provider,
            model=message.model,
            references=message.references,
            idempotency=message.idempotency,
            chat=PlaceInChat(message.chat_id, len(talk.turns), context.prepare),
        )
