"""The words of the quota: modes, who is metered, what is held, what is left."""

import math
from dataclasses import dataclass

from core.clock import Milliseconds, rfc3339
from core.errors import JsonValue
from core.setting_groups import QuotaSettings

UNMETERED = "unmetered"
CARRIED_OVER = "carried_over"
TEXT = "text"  # the mode of the prompt tools, which make no image
FORGOTTEN_USER = "forgotten"  # whose charges are of somebody who has left
SMALL_RESOLUTIONS = frozenset({"512", "1K", "2K"})


@dataclass(frozen=True)
class QuotaMode:
    """One line of the table in SPEC section 9. `cost` in points an image, `limit` in images a day and user."""

    key: str
    name: str
    cost: int
    limit: int

    @property
    def cools_down(self) -> bool:
        """Whether the pause between two generations is about this mode."""
        return self.key != TEXT


@dataclass(frozen=True)
class QuotaIdentity:
    """Who is metered. Guests share by address; `guest_address` is None for everybody else.

    `service_key_id`: the key that a program calls with for its owner, and `service_key_limit` the points a day that it
    may take; None without a key, or without a cap.
    """

    user_id: str
    guest_address: str | None = None
    service_key_id: str | None = None
    service_key_limit: int | None = None


@dataclass(frozen=True)
class Reservation:
    """Points held for a call or a task until it ends. `day` is the UTC date they belong to.

    `note` is for whoever has to finish the work when its process died.
    """

    id: str
    identity: QuotaIdentity
    mode: str
    points: int
    count: int
    day: str
    made_at: Milliseconds
    note: str = ""

    @property
    def is_metered(self) -> bool:
        """False for one that holds nothing and only marks a call as under way."""
        return self.mode != UNMETERED


@dataclass(frozen=True)
class Usage:
    """`remaining` is never below 0, also after the operator lowered a limit."""

    used: int
    limit: int

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def as_details(self) -> dict[str, int]:
        return {"used": self.used, "limit": self.limit, "remaining": self.remaining}


@dataclass(frozen=True)
class ModeUsage:
    mode: QuotaMode
    usage: Usage


@dataclass(frozen=True)
class QuotaStatus:
    """A caller's view of one day. `guest_share` is None for who is no guest."""

    is_trial_mode: bool
    pool: Usage
    modes: tuple[ModeUsage, ...]
    guest_share: Usage | None
    cooldown_remaining_seconds: float
    resets_at: Milliseconds

    def as_details(self) -> dict[str, JsonValue]:
        """The body of `GET /api/quota`, which a refusal carries too."""
        return {
            "is_trial_mode": self.is_trial_mode,
            "global": self.pool.as_details(),
            "modes": {
                entry.mode.key: {"name": entry.mode.name, **entry.usage.as_details(), "cost": entry.mode.cost}
                for entry in self.modes
            },
            "cooldown": {
                "active": self.cooldown_remaining_seconds > 0,
                "remaining_seconds": round(self.cooldown_remaining_seconds, 3),
            },
            "guest_share": self.guest_share.as_details() if self.guest_share else None,
            "resets_at": rfc3339(self.resets_at),
        }


@dataclass(frozen=True)
class LedgerTotals:
    """What was charged on one day: the truth that the counters in Redis are rebuilt from."""

    pool: int
    by_user_mode: dict[tuple[str, str], int]
    by_guest_address: dict[str, int]
    by_service_key: dict[str, int]


@dataclass(frozen=True)
class DayBooks:
    """What the database says of a day at one moment. `charged`: images by reservation; `holds` of tasks that go on."""

    totals: LedgerTotals
    charged: dict[str, int]
    holds: tuple[Reservation, ...]


def quota_modes(settings: QuotaSettings) -> dict[str, QuotaMode]:
    """The modes by key, with the limits of the mode that TRIAL_QUOTA_MODE names (shares: SPEC section 9)."""
    pool, trial = settings.trial_global_quota, settings
    table = (
        ("basic_1k", "Basic (1K/2K)", trial.trial_basic_1k_cost, trial.trial_basic_1k_limit, 0.60),
        ("basic_4k", "Basic (4K)", trial.trial_basic_4k_cost, trial.trial_basic_4k_limit, 0.20),
        ("chat", "Chat", trial.trial_chat_cost, trial.trial_chat_limit, 0.40),
        ("batch_1k", "Batch (1K/2K)", trial.trial_batch_1k_cost, trial.trial_batch_1k_limit, 0.30),
        ("batch_4k", "Batch (4K)", trial.trial_batch_4k_cost, trial.trial_batch_4k_limit, 0.10),
        ("search", "Search", trial.trial_search_cost, trial.trial_search_limit, 0.30),
        ("blend", "Blend/Style", trial.trial_blend_cost, trial.trial_blend_limit, 0.20),
        (TEXT, "Prompt tools", 0, trial.trial_text_limit, None),
    )
    auto = settings.trial_quota_mode == "auto"
    return {
        key: QuotaMode(key, name, cost, auto_limit(pool, share, cost) if auto and share else limit)
        for key, name, cost, limit, share in table
    }


def auto_limit(pool: int, share: float, cost: int) -> int:
    """`max(1, int(pool × share ÷ cost))`; a mode that costs nothing is limited as if it cost 1."""
    return max(1, _floor(pool * share / max(1, cost)))


def guest_limit(settings: QuotaSettings) -> int:
    return _floor(settings.trial_global_quota * settings.trial_guest_share)


def _floor(value: float) -> int:
    # 100 × 0.29 is 28.999…: the next whole number within rounding error is what the operator meant.
    return math.floor(value + 1e-9)


def mode_key(mode: str, resolution: str) -> str:
    """The quota mode of a generation mode: `basic` and `batch` by resolution, `style` with `blend`, `edit` with
    `chat`."""
    if mode in {"basic", "batch"}:
        return f"{mode}_1k" if resolution in SMALL_RESOLUTIONS else f"{mode}_4k"
    return {"style": "blend", "edit": "chat"}.get(mode, mode)
