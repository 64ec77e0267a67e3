"""When a webhook is tried again."""

import pytest

from services.webhooks.models import Attempt
from services.webhooks.schedule import RetrySchedule

FIRST = 1_790_000_000_000
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
OFFSETS = [0, 5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]

EXACT = RetrySchedule(jitter=0)


def failed(at: int, number: int = 1, retry_after: float | None = None) -> Attempt:
    return Attempt(number, at, 0.1, status=503, retry_after=retry_after)


def walk(schedule: RetrySchedule, seconds: float = 0.0) -> list[int]:
    """When each try begins, if each takes so long and fails, as times since the first."""
    began = [FIRST]
    while True:
        now = began[-1] + round(seconds * 1000)
        following = schedule.next_try(FIRST, failed(began[-1], len(began)), now)
        if following is None:
            return [moment - FIRST for moment in began]
        began.append(following)


def test_ten_tries_over_a_day() -> None:
    assert walk(EXACT) == OFFSETS


def test_tries_that_run_out_of_time_skip_none() -> None:
    assert walk(EXACT, seconds=20) == [0, 20 * SECOND, *OFFSETS[2:]]


def test_tries_are_spread_a_little_and_stay_in_order() -> None:
    walks = [walk(RetrySchedule()) for _ in range(50)]
    for tries in walks:
        assert len(tries) == len(OFFSETS)
        for moment, offset in zip(tries, OFFSETS, strict=True):
            assert offset <= moment <= offset + min(offset / 10, 5 * MINUTE) + 1
    assert len({tries[4] for tries in walks}) > 40


@pytest.mark.parametrize("status", [200, 204, 299, 410])
def test_success_and_gone_end_it(status: int) -> None:
    assert EXACT.next_try(FIRST, Attempt(1, FIRST, 0.1, status=status), FIRST) is None


@pytest.mark.parametrize(
    "attempt", [Attempt(1, FIRST, 20, error="url_timeout"), Attempt(1, FIRST, 1, status=302), failed(FIRST)]
)
def test_anything_else_is_tried_again(attempt: Attempt) -> None:
    assert EXACT.next_try(FIRST, attempt, FIRST) == FIRST + 5 * SECOND


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(0, 5 * SECOND), (3, 5 * SECOND), (60, MINUTE), (3 * 3600, 3 * HOUR), (10**9, 24 * HOUR)],
)
def test_retry_after_postpones_until_the_last_try_at_most(asked: float, expected: int) -> None:
    assert EXACT.next_try(FIRST, failed(FIRST, retry_after=asked), FIRST) == FIRST + expected


def test_a_postponed_try_takes_the_place_of_those_before_it() -> None:
    late = FIRST + 3 * HOUR
    assert EXACT.next_try(FIRST, failed(late, 2), late) == FIRST + 5 * HOUR


def test_a_receiver_that_always_asks_for_more_time_has_an_end() -> None:
    at, tries = FIRST, 1
    while (following := EXACT.next_try(FIRST, failed(at, tries, retry_after=86_400), at)) is not None:
        at, tries = following, tries + 1
    assert (at - FIRST, tries) == (24 * HOUR, 2)


def test_who_was_stopped_meanwhile_goes_on_at_once() -> None:
    late = FIRST + 6 * HOUR
    assert EXACT.next_try(FIRST, failed(FIRST), late) == late


def test_a_schedule_of_ones_own() -> None:
    assert walk(RetrySchedule((0.0, 0.05, 0.1, 0.15), jitter=0)) == [0, 50, 100, 150]
