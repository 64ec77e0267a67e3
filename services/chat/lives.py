"""How long chats live after their last message: CHAT_TTL_DAYS, those of guests as long as all that guests make."""

from dataclasses import dataclass

from core.clock import DAY_MS, Milliseconds
from services.accounts.models import Caller


@dataclass(frozen=True)
class ChatLives:
    of_accounts: Milliseconds
    of_guests: Milliseconds

    @classmethod
    def by(cls, *, ttl_days: int, guest_retention_hours: int) -> "ChatLives":
        return cls(ttl_days * DAY_MS, min(ttl_days * DAY_MS, guest_retention_hours * 3600 * 1000))

    def of(self, caller: Caller) -> Milliseconds:
        return self.of_guests if caller.role == "guest" else self.of_accounts
