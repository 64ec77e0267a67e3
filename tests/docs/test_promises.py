"""docs/security.md: each promise names tests, and these are there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
HEAD = {"promise", "---"}


@cache
def names_in(path: str) -> set[str]:
    """Names of the tests in a file; none where there is no such file."""
    if not (ROOT / path).exists():
        return set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def promises() -> list[tuple[str, str]]:
    """What is promised, and the cell beside it."""
    rows = [line.strip("|").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert all(len(row) == 2 for row in rows)
    return [(promise.strip(), tests) for promise, tests in rows if promise.strip() not in HEAD]


def test_every_promise_is_held_by_a_test_that_exists() -> None:
    assert len(promises()) > 25
    for promise, cell in promises():
        named = NAMED.findall(cell)
        assert named, f"nothing holds: {promise}"
        assert NAMED.sub("", cell).strip() == "", f"the cell beside {promise!r} says more than tests"
        missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
        assert missing == [], f"of: {promise}"


def test_every_link_between_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))]
    assert len(links) > 10
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
