"""Chats in Redis: what is said of one, its turns, and which ones somebody has (SPEC section 15)."""

from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from core.clients.redis import RedisKey, reply
from core.clock import Milliseconds
from core.paging import Page
from services.chat.models import Begun, Chat, Turn

TTL_SECONDS = 30 * 24 * 3600  # CHAT_TTL_DAYS; for guests GUEST_RETENTION_HOURS

CHAT = RedisKey("chat:{session_id}", "hash: whose it is, what a list shows; from its last message", TTL_SECONDS)
TURNS = RedisKey("chat:{session_id}:messages", "list: a turn each, message and answer, without images", TTL_SECONDS)
CHATS = RedisKey("user:{user_id}:chats", "sorted set: chats by when they end", TTL_SECONDS)

# KEYS: the chat, the user's chats.   ARGV: chat id, now, its end, life (ms), the most chats, then fields and values.
_CREATE = """
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then return 'there' end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 'made'
"""

# KEYS: the chat, its turns, the user's chats.   ARGV: chat id, the user, turns there must be, the new one, its end,
# life (ms), the title it has unless it has one, then fields and values.
_APPEND = """
local found = redis.call('HMGET', KEYS[1], 'user_id', 'turns')
if not found[1] then return 'gone' end
if found[1] ~= ARGV[2] then return found[1] end
if found[2] ~= ARGV[3] then return 'moved' end
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('HSETNX', KEYS[1], 'title', ARGV[7])
redis.call('HSET', KEYS[1], 'turns', found[2] + 1, unpack(ARGV, 8))
redis.call('HDEL', KEYS[1], 'begun')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return 'ok'
"""

# KEYS: the chat.   ARGV: the turn that is begun.   What is gone does not come back by it.
_BEGIN = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'begun', ARGV[1])
"""

# KEYS: the chat.   ARGV: the id of a turn that came to nothing.
_ABANDON = """
local begun = redis.call('HGET', KEYS[1], 'begun')
if not begun or cjson.decode(begun).turn_id ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'begun')
"""

# KEYS: the chat, its turns, its user's chats, the heir's.   ARGV: chat id, the user, the heir, its end, life (ms).
_HAND_ON = """
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('HGET', KEYS[1], 'user_id') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'user_id', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return 1
"""

_OWNER_TRIES = 3


class ChatMoved(Exception):
    """Another turn came between: this one is not in the chat."""


class ChatGone(Exception):
    """There is no such chat any more."""


class ChatStore:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._create = redis.register_script(_CREATE)
        self._begin = redis.register_script(_BEGIN)
        self._abandon = redis.register_script(_ABANDON)
        self._append = redis.register_script(_APPEND)
        self._hand_on = redis.register_script(_HAND_ON)

    async def create(self, chat: Chat, now: Milliseconds, life: Milliseconds, most: int) -> bool:
        """True also when it is there already; False: the user has `most` others."""
        keys = [CHAT(session_id=chat.id), CHATS(user_id=chat.user_id)]
        answer = await self._create(keys=keys, args=[chat.id, now, now + life, life, most, *_flat(_fields(chat))])
        return bool(answer != "full")

    async def get(self, chat_id: str) -> Chat | None:
        return _chat(chat_id, await reply(self._redis.hgetall(CHAT(session_id=chat_id))))

    async def turns(self, chat_id: str) -> tuple[Turn, ...]:
        found = await reply(self._redis.lrange(TURNS(session_id=chat_id), 0, -1))
        return tuple(Turn.read(orjson.loads(entry)) for entry in found)

    async def page(self, user_id: str, now: Milliseconds, limit: int, offset: int) -> Page[Chat]:
        """Those with the latest message first."""
        key = CHATS(user_id=user_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(key, "-inf", now)
            pipe.zcard(key)
            pipe.zrevrange(key, offset, offset + limit - 1)
            _, total, ids = await pipe.execute()
        return Page(await self._all(ids), total, limit, offset)

    async def ids_of(self, user_id: str) -> list[str]:
        return await reply(self._redis.zrange(CHATS(user_id=user_id), 0, -1))

    async def begin(self, chat_id: str, begun: Begun) -> None:
        """In place of one that was begun before and has come to nothing."""
        await self._begin(keys=[CHAT(session_id=chat_id)], args=[orjson.dumps(begun)])

    async def abandon(self, chat_id: str, turn_id: str) -> None:
        """A turn that was begun has come to nothing."""
        await self._abandon(keys=[CHAT(session_id=chat_id)], args=[turn_id])

    async def append(self, chat: Chat, turn: Turn, title: str, life: Milliseconds) -> None:
        """The turn after `chat.turns` others. Raises ChatMoved or ChatGone; nothing is changed then."""
        last = {
            "last_message_at": turn.answered_at,
            "preview_prompt": turn.prompt,
            "preview_image_id": turn.image_id,
        }
        owner = chat.user_id
        for _ in range(_OWNER_TRIES):
            keys = [CHAT(session_id=chat.id), TURNS(session_id=chat.id), CHATS(user_id=owner)]
            end = turn.answered_at + life
            args = [chat.id, owner, chat.turns, orjson.dumps(turn), end, life, title, *_flat(last)]
            answer = await self._append(keys=keys, args=args)
            if answer == "ok":
                return
            if answer in {"gone", "moved"}:
                raise ChatGone(chat.id) if answer == "gone" else ChatMoved(chat.id)
            owner = answer  # a guest has signed in meanwhile
        raise ChatMoved(chat.id)

    async def hand_on(self, chat_id: str, user_id: str, heir: str, now: Milliseconds, life: Milliseconds) -> None:
        keys = [CHAT(session_id=chat_id), TURNS(session_id=chat_id), CHATS(user_id=user_id), CHATS(user_id=heir)]
        await self._hand_on(keys=keys, args=[chat_id, user_id, heir, now + life, life])

    async def remove(self, chat_id: str, user_id: str) -> bool:
        """False when it was gone."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(CHAT(session_id=chat_id), TURNS(session_id=chat_id))
            pipe.zrem(CHATS(user_id=user_id), chat_id)
            removed, _ = await pipe.execute()
        return bool(removed)

    async def existing(self, chat_ids: Sequence[str]) -> set[str]:
        """Those of these that there are, whosever they are."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for chat_id in chat_ids:
                pipe.exists(CHAT(session_id=chat_id))
            found = await pipe.execute()
        return {chat_id for chat_id, there in zip(chat_ids, found, strict=True) if there}

    async def _all(self, chat_ids: Sequence[str]) -> tuple[Chat, ...]:
        if not chat_ids:
            return ()
        async with self._redis.pipeline(transaction=False) as pipe:
            for chat_id in chat_ids:
                pipe.hgetall(CHAT(session_id=chat_id))
            found = await pipe.execute()
        chats = (_chat(chat_id, fields) for chat_id, fields in zip(chat_ids, found, strict=True))
        return tuple(chat for chat in chats if chat is not None)


def _fields(chat: Chat) -> dict[str, Any]:
    """A hash knows no null: what there is not is left out."""
    return {name: value for name, value in vars(chat).items() if name != "id" and value is not None}


def _flat(fields: dict[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


def _chat(chat_id: str, fields: dict[str, Any]) -> Chat | None:
    if not fields:
        return None
    last = fields.get("last_message_at")
    return Chat(
        id=chat_id,
        user_id=fields["user_id"],
        created_at=int(fields["created_at"]),
        aspect_ratio=fields["aspect_ratio"],
        title=fields.get("title"),
        turns=int(fields["turns"]),
        last_message_at=None if last is None else int(last),
        preview_prompt=fields.get("preview_prompt"),
        preview_image_id=fields.get("preview_image_id"),
        begun=Begun.read(orjson.loads(fields["begun"])) if "begun" in fields else None,
    )
