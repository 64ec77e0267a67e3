"""`Prefer: respond-async` (RFC 7240): the caller does not wait, and is given a task to look at."""

from typing import Annotated

from fastapi import Depends, Header

_ASYNC = "respond-async"
APPLIED = {"Preference-Applied": _ASYNC}


async def prefers_async(
    prefer: Annotated[
        str | None, Header(description="`respond-async`: 202 with a task at once, instead of waiting")
    ] = None,
) -> bool:
    given = (preference.partition(";")[0].strip().lower() for preference in (prefer or "").split(","))
    return _ASYNC in given


PrefersAsync = Annotated[bool, Depends(prefers_async)]
