"""Why a chat does not take a message, or is not begun."""

from core.errors import AppError
from services.idempotency import Conflict

RETRY_SECONDS = 5


class ChatBusy(Conflict):
    """The chat is answering another message."""

    type = "chat_busy"

    def __init__(self) -> None:
        super().__init__(retry_after=RETRY_SECONDS)


class ChatFull(Conflict):
    """The chat has as many turns as one may have (`limit`)."""

    type = "chat_full"

    def __init__(self, limit: int) -> None:
        AppError.__init__(self, limit=limit)


class TooManyChats(Conflict):
    """There are as many chats as somebody may have (`limit`)."""

    type = "too_many_chats"

    def __init__(self, limit: int) -> None:
        AppError.__init__(self, limit=limit)
