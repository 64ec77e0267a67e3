"""The way back: history.json for the old app, of each account the list that it would have written itself."""

from collections.abc import Awaitable, Callable
from datetime import datetime, tzinfo
from typing import Any

import orjson

from services.accounts.directory import UserDirectory
from services.accounts.models import User, UserFilter
from services.history.models import HistoryFilter, Image
from services.history.service import HistoryService
from services.legacy.models import Shelf

USERS = 100
TEXT_CHARACTERS = 500  # where the old app cut prompts and answers

Put = Callable[[str, bytes], Awaitable[None]]


class LegacyExport:
    """`put`: stores a list under its key. `zone`: of the old app's times, which name none."""

    def __init__(self, directory: UserDirectory, history: HistoryService, put: Put, zone: tzinfo) -> None:
        self._directory = directory
        self._history = history
        self._put = put
        self._zone = zone

    async def run(self) -> tuple[int, int]:
        """Write the list of each account that has images, the newest first. Answers how many lists and entries.

        One list is in memory at a time. The old app had no guests, and theirs are left out.
        """
        lists, entries, offset = 0, 0, 0
        while users := (await self._directory.search(UserFilter(), USERS, offset)).items:
            offset += USERS
            for user in users:
                count = 0 if user.role == "guest" else await self._write(user)
                lists += bool(count)
                entries += count
        return lists, entries

    async def _write(self, user: User) -> int:
        entries = [
            orjson.dumps(legacy_entry(image, self._zone))
            async for image in self._history.iterate(user.id, HistoryFilter())
        ]
        if entries:
            await self._put(Shelf("", user.folder_id).index_key, b"[\n" + b",\n".join(entries) + b"\n]\n")
        return len(entries)


def legacy_entry(image: Image, zone: tzinfo) -> dict[str, Any]:
    made_at = datetime.fromtimestamp(image.created_at / 1000, zone).replace(tzinfo=None)
    optional = {
        "text_response": image.text_response and image.text_response[:TEXT_CHARACTERS],
        "thinking": image.thinking and image.thinking[:TEXT_CHARACTERS],
        "session_id": image.session_id,
        "chat_index": image.chat_index,
    }
    return {
        "key": image.key,
        "filename": image.key.rpartition("/")[2],
        "prompt": image.prompt[:TEXT_CHARACTERS],
        "settings": {"aspect_ratio": image.aspect_ratio, "resolution": image.resolution},
        "duration": image.duration,
        "mode": image.mode,
        "created_at": made_at.isoformat(),
    } | {name: value for name, value in optional.items() if value is not None}
