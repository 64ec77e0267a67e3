"""The parts of this domain, put together for the composition root."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.chat.departure import ChatDeparture
from services.chat.export import ChatExport
from services.chat.lives import ChatLives
from services.chat.objects import ChatObjects
from services.chat.service import ChatService, Forebears
from services.chat.store import ChatStore
from services.chat.turns import ChatTurns
from services.generation.service import GenerationService
from services.ground import Ground
from services.history.service import HistoryService
from services.idempotency import IdempotencyService

# Before what the pipeline gets, within the 30 s that the leader gives a process. It need be no more: a turn whose image
# is made joins its chat when that is next looked at.
DRAIN_SECONDS = 1


@dataclass(frozen=True)
class Chats:
    service: ChatService
    turns: ChatTurns
    export: ChatExport
    departure: ChatDeparture


@dataclass(frozen=True)
class ChatNeighbours:
    """What chats rest on."""

    generation: GenerationService
    history: HistoryService
    idempotency: IdempotencyService
    forebears: Forebears


def assemble_chats(ground: Ground, given: ChatNeighbours, stack: AsyncExitStack) -> Chats:
    """`stack` waits for what is under way."""
    settings, redis = ground.settings, ground.redis
    store, objects = ChatStore(redis), ChatObjects(ground.storage, ground.spool, ground.files)
    lives = ChatLives.by(
        ttl_days=settings.tasks.chat_ttl_days, guest_retention_hours=settings.storage.guest_retention_hours
    )
    service = ChatService(redis, store, objects, lives, given.history, given.idempotency, given.forebears)
    turns = ChatTurns(
        redis,
        service,
        store,
        objects,
        ground.spool,
        given.generation,
        given.idempotency,
    )
    stack.push_async_callback(turns.drain, DRAIN_SECONDS)
    return Chats(
        service,
        turns,
        ChatExport(service, objects, ground.storage),
        ChatDeparture(store, objects, lives, ground.metrics),
    )
