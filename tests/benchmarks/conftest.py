"""One stand-in for all tests of this folder, set back before each."""

from collections.abc import Iterator

import pytest

from benchmarks.gemini_standin import GeminiStandin


@pytest.fixture(scope="session")
def process() -> Iterator[GeminiStandin]:
    with GeminiStandin() as running:
        yield running


@pytest.fixture
def standin(process: GeminiStandin) -> GeminiStandin:
    process.reset()
    return process
