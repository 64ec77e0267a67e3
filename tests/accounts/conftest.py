"""A stand-in for GitHub."""

from collections.abc import AsyncIterator

import pytest

from tests.support.github import GitHubStandin, running_github


@pytest.fixture
async def github() -> AsyncIterator[GitHubStandin]:
    async with running_github() as standin:
        yield standin
