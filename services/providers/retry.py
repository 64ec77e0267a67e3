"""Trying a provider again: at most `max_retries` times, 2, 4, 8 s apart, all within one time limit (SPEC 11)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from services.providers.errors import ProviderError, ProviderTimeout

Result = TypeVar("Result")


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds. `total_seconds` bounds all tries and the pauses between them."""

    try_seconds: float
    total_seconds: float
    max_retries: int
    first_pause_seconds: float = 2.0


async def call_with_retries(
    call: Callable[[], Awaitable[Result]], policy: RetryPolicy, on_retry: Callable[[ProviderError], None]
) -> Result:
    """Raises the last ProviderError once nothing more is to be tried."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + policy.total_seconds
    for attempt in range(policy.max_retries + 1):
        try:
            return await _one_try(call, min(policy.try_seconds, deadline - loop.time()))
        except ProviderError as error:
            pause = policy.first_pause_seconds * 2**attempt
            if not error.retryable or attempt == policy.max_retries or loop.time() + pause >= deadline:
                raise
            on_retry(error)
            await asyncio.sleep(pause)
    raise AssertionError("the last try returns or raises")


async def _one_try(call: Callable[[], Awaitable[Result]], seconds: float) -> Result:
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except TimeoutError as error:
        raise ProviderTimeout(f"no answer within {seconds:.1f} s") from error
