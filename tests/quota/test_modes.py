"""The table of SPEC section 9: modes, their prices and limits, the guests' share."""

import pytest

from core.settings import load_settings
from services.quota.models import QuotaMode, Usage, auto_limit, guest_limit, mode_key, quota_modes

TABLE = (
    QuotaMode("basic_1k", "Basic (1K/2K)", cost=1, limit=30),
    QuotaMode("basic_4k", "Basic (4K)", cost=3, limit=10),
    QuotaMode("chat", "Chat", cost=1, limit=20),
    QuotaMode("batch_1k", "Batch (1K/2K)", cost=1, limit=15),
    QuotaMode("batch_4k", "Batch (4K)", cost=3, limit=5),
    QuotaMode("search", "Search", cost=2, limit=15),
    QuotaMode("blend", "Blend/Style", cost=2, limit=10),
    QuotaMode("text", "Prompt tools", cost=0, limit=50),
)
AUTO_LIMITS_OF_50 = {
    "basic_1k": 30,
    "basic_4k": 3,
    "chat": 20,
    "batch_1k": 15,
    "batch_4k": 1,
    "search": 7,
    "blend": 5,
    "text": 50,
}


def test_the_defaults_are_the_table() -> None:
    assert tuple(quota_modes(load_settings().quota).values()) == TABLE


def test_the_pool_the_share_and_the_cooldown_have_their_defaults() -> None:
    quota = load_settings().quota
    assert (quota.trial_global_quota, quota.trial_guest_share, quota.trial_cooldown_seconds) == (50, 0.2, 3)
    assert guest_limit(quota) == 10


@pytest.mark.parametrize("mode", [mode for mode in TABLE if mode.key != "text"], ids=lambda mode: mode.key)
def test_each_limit_and_each_cost_has_its_variable(mode: QuotaMode) -> None:
    name = f"TRIAL_{mode.key.upper()}"
    modes = quota_modes(load_settings({f"{name}_LIMIT": "77", f"{name}_COST": "8"}).quota)
    assert modes.pop(mode.key) == QuotaMode(mode.key, mode.name, cost=8, limit=77)
    assert tuple(modes.values()) == tuple(other for other in TABLE if other.key != mode.key)


def test_the_prompt_tools_have_a_limit_and_cost_nothing() -> None:
    text = quota_modes(load_settings({"TRIAL_TEXT_LIMIT": "7"}).quota)["text"]
    assert (text.cost, text.limit) == (0, 7)


def test_auto_mode_derives_the_limits_from_the_pool() -> None:
    modes = quota_modes(load_settings({"TRIAL_QUOTA_MODE": "auto"}).quota)
    assert {key: mode.limit for key, mode in modes.items()} == AUTO_LIMITS_OF_50


def test_auto_mode_pays_no_heed_to_the_limits_but_to_the_costs() -> None:
    settings = load_settings({"TRIAL_QUOTA_MODE": "auto", "TRIAL_SEARCH_LIMIT": "1", "TRIAL_SEARCH_COST": "5"})
    assert quota_modes(settings.quota)["search"] == QuotaMode("search", "Search", cost=5, limit=3)


@pytest.mark.parametrize(
    ("pool", "share", "cost", "limit"),
    [
        (50, 0.60, 1, 30),
        (50, 0.10, 3, 1),  # 1.67 rounded down
        (10, 0.10, 3, 1),  # 0.33: never less than one
        (0, 0.60, 1, 1),
        (100, 0.29, 1, 29),  # 28.999999999999996 in binary floating point
        (50, 0.60, 0, 30),  # free counts as 1
    ],
)
def test_the_auto_formula(pool: int, share: float, cost: int, limit: int) -> None:
    assert auto_limit(pool, share, cost) == limit


@pytest.mark.parametrize(
    ("pool", "share", "limit"),
    [
        ("50", "0.2", 10),
        ("50", "0.19", 9),  # 9.5 rounded down
        ("100", "0.29", 29),  # as an operator reads it
        ("50", "0.0001", 0),
        ("3", "1", 3),
    ],
)
def test_the_guests_share_is_whole_points(pool: str, share: str, limit: int) -> None:
    settings = load_settings({"TRIAL_GLOBAL_QUOTA": pool, "TRIAL_GUEST_SHARE": share})
    assert guest_limit(settings.quota) == limit


@pytest.mark.parametrize(
    ("mode", "resolution", "key"),
    [
        ("basic", "512", "basic_1k"),
        ("basic", "1K", "basic_1k"),
        ("basic", "2K", "basic_1k"),
        ("basic", "4K", "basic_4k"),
        ("batch", "2K", "batch_1k"),
        ("batch", "4K", "batch_4k"),
        ("chat", "1K", "chat"),
        ("edit", "4K", "chat"),
        ("search", "1K", "search"),
        ("blend", "1K", "blend"),
        ("style", "1K", "blend"),
        ("text", "1K", "text"),
    ],
)
def test_each_generation_mode_has_its_quota_mode(mode: str, resolution: str, key: str) -> None:
    assert mode_key(mode, resolution) == key
    assert key in quota_modes(load_settings().quota)


def test_what_remains_is_never_below_zero() -> None:
    assert Usage(used=12, limit=10).as_details() == {"used": 12, "limit": 10, "remaining": 0}
