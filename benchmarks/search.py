"""How fast a history is listed and searched when there is much of it: `python -m benchmarks.search [--keep FOLDER]`.

One user has nearly all rows, another a thousand. Each query is asked of the service's own code and, in the same run and
of the same database, as LIKE over the folded prompts.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, text

from benchmarks.measure import describe_machine
from benchmarks.search_corpus import prompts
from core.clients.database import Database, open_database
from core.clients.sqlite import sqlite_url
from core.text import fold
from migrations.upgrade import upgrade
from services.history.entries import search_page
from services.history.grams import Sought
from services.history.indexing import SearchIndexer
from services.history.models import EntryPage, HistoryFilter, Image, Wanted
from services.history.pages import Pages
from services.history.store import images
from tests.support.postgresql import running_postgres

STEPS = ("prepare", "check", "search", "pages")
SMALL_ROWS, CHECKED_ROWS = 1_000, 20_000
BATCH = 5_000
PAGE = 20
LENGTHS = (1, 2, 3, 6)
EVERYTHING = HistoryFilter()
PAGES = 200  # times that each is asked for
# By how long the sought text is: the 99th percentile may not be over it.
SQLITE_MS = {"short": 50, "long": 10}
POSTGRESQL_MS = {"short": 50, "long": 50}
# LIKE that takes longer is to be so many times slower.
SLOW_MS, TIMES = 100.0, 50

_LIKE = (
    "FROM images WHERE user_id = :owner AND listed IS TRUE AND deleted_at IS NULL AND folded LIKE :pattern ESCAPE '\\'"
)
_LIKE_TOTAL = text(f"SELECT count(*) {_LIKE}")
_LIKE_PAGE = text(f"SELECT id {_LIKE} ORDER BY created_at DESC, id DESC LIMIT {PAGE}")
_LIKE_IDS = text(f"SELECT id {_LIKE} ORDER BY created_at DESC, id DESC")


@dataclass(frozen=True)
class Stratum:
    """Queries with so many hits, per row of the owner who has nearly all."""

    name: str
    fewest: float
    most: float


STRATA = (
    Stratum("under 100", 1e-6, 100e-6),
    Stratum("about 10,000", 5_000e-6, 20_000e-6),
    Stratum("over 300,000", 300_000e-6, 1.0),
)


def _image(owner: str, number: int, prompt: str) -> dict[str, Any]:
    image = Image(
        id=f"img_{owner}{number:022d}", user_id=owner, folder_id="0" * 16, key=f"users/{owner}/{number}.png",
        mode="basic", prompt=prompt, aspect_ratio="1:1", resolution="1K", provider="gemini",
        model="gemini-3-pro-image", duration=number * 7919 % 40_000 / 1000,
        created_at=1_700_000_000_000 + number * 30_000, width=1024, height=1024, size=1_500_000,
        mime_type="image/png", call_id=f"call_{owner}{number:022d}",
    )  # fmt: skip
    return dict(vars(image))


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(images.insert(), rows)


async def _fill(database: Database, owner: str, texts: Iterable[str]) -> None:
    rows = (_image(owner, number, prompt) for number, prompt in enumerate(texts))
    while some := list(islice(rows, BATCH)):
        await database.write(partial(_insert, rows=some))


def _pattern(folded: str) -> str:
    escaped = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _substrings(texts: list[str], chance: random.Random, lengths: tuple[int, ...]) -> Iterator[str]:
    while True:
        folded, length = chance.choice(texts), chance.choice(lengths)
        if len(folded) >= length:
            start = chance.randrange(len(folded) - length + 1)
            yield folded[start : start + length]


async def _milliseconds(work: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


def _percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Bench:
    def __init__(self, database: Database, arguments: argparse.Namespace) -> None:
        self._database = database
        self._rows: int = arguments.rows
        self._queries: int = arguments.queries
        self._repeats: int = arguments.repeats
        self._likes: int = arguments.likes
        self._checked: int = arguments.check
        self._limits = POSTGRESQL_MS if arguments.postgresql else SQLITE_MS
        self._chance = random.Random(11)

    async def prepare(self) -> bool:
        started = time.perf_counter()
        await _fill(self._database, "all", prompts(self._rows, seed=1))
        await _fill(self._database, "few", prompts(SMALL_ROWS, seed=2))
        await _fill(self._database, "chk", prompts(CHECKED_ROWS, seed=3))
        filled = time.perf_counter()
        made = await SearchIndexer(self._database).tend()
        ended = time.perf_counter()
        print(f"{self._rows:,} rows in {filled - started:.0f} s; {made} segments in {ended - filled:.0f} s", flush=True)
        return True

    async def check(self) -> bool:
        """Are the exact hits of random substrings those of LIKE, in its order?"""
        texts = list(map(fold, prompts(CHECKED_ROWS, seed=3)))
        wrong = 0
        for sought in islice(_substrings(texts, self._chance, (1, 2, 3, 4, 6, 10)), self._checked):
            found = await self._database.read(partial(_exact_hits, owner="chk", sought=sought))
            wrong += found != await self._database.read(partial(_like_ids, owner="chk", sought=sought))
        print(
            f"of {self._checked:,} random substrings {wrong} found something else than LIKE, in {CHECKED_ROWS:,} rows"
        )
        return not wrong

    async def search(self) -> bool:
        """Total and first page."""
        _print_unrest()
        columns = "owner of | hits | characters | queries | p50 | p99 | bar | slowest query's p50 | LIKE p50"
        print(f"\n| {columns} | slowest against LIKE |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        good = True
        texts = list(map(fold, islice(prompts(self._rows, seed=1), 40_000)))
        for stratum in STRATA:
            for length in LENGTHS:
                sought = self._of_stratum(texts, stratum, length)
                if sought:
                    good &= await self._cell("all", stratum.name, length, sought)
        few = list(map(fold, prompts(SMALL_ROWS, seed=2)))
        for length in LENGTHS:
            sought = list(islice(_substrings(few, self._chance, (length,)), self._queries))
            good &= await self._cell("few", "any", length, sought)
        return good

    def _of_stratum(self, texts: list[str], stratum: Stratum, length: int) -> list[str]:
        """Judged by the first rows; what they have once is judged by how rare it is there."""
        found: dict[str, None] = {}
        for sought in islice(_substrings(texts, self._chance, (length,)), 4_000):
            if sought not in found:
                share = sum(sought in text for text in texts) / len(texts)
                if stratum.fewest <= share <= stratum.most:
                    found[sought] = None
            if len(found) == self._queries:
                break
        return list(found)

    async def _cell(self, owner: str, hits: str, length: int, queries: list[str]) -> bool:
        ours, medians, likes, ratios = [], [], [], []
        same = True
        for number, sought in enumerate(queries):
            work = partial(search_page, user_id=owner, wanted=_wanted(sought), limit=PAGE, offset=0)
            times = [await _milliseconds(partial(self._database.read, work)) for _ in range(self._repeats)]
            ours += times
            medians.append(_percentile(times, 0.5))
            if number < self._likes:
                page = await self._database.read(work)
                started = time.perf_counter()
                total, ids = await self._database.read(partial(_like, owner=owner, sought=sought))
                likes.append((time.perf_counter() - started) * 1000)
                same &= _agrees(page, total, ids)
                if likes[-1] > SLOW_MS:
                    ratios.append(likes[-1] / medians[-1])
        bar = self._limits["short" if length == 1 else "long"]
        count = self._rows if owner == "all" else SMALL_ROWS
        slowest = f"{min(ratios):.0f} times" if ratios else "–"
        p99 = _percentile(ours, 0.99)
        print(
            f"| {count:,} | {hits} | {length} | {len(queries)} | {_percentile(ours, 0.5):.1f} | {p99:.1f} | ≤ {bar} | "
            f"{max(medians):.1f} | {_percentile(likes, 0.5):.0f} | {slowest} |{'' if same else ' NOT THE SAME HITS'}",
            flush=True,
        )
        return same and p99 <= bar and (not ratios or min(ratios) >= TIMES)

    async def pages(self) -> bool:
        pages = Pages(self._database)
        last = self._rows // PAGE
        good = True
        print("\n| page | p50 | p99 | bar |\n|---|---|---|---|")
        for number, bar in ((1, 10), (100, 50), (10_000, 50), (last, None)):
            offset = (min(number, last) - 1) * PAGE
            read = partial(pages.page, "all", EVERYTHING, "newest", PAGE, offset)
            times = [await _milliseconds(read) for _ in range(PAGES)]
            total = (await read()).total
            p99 = _percentile(times, 0.99)
            good &= total == self._rows and (bar is None or p99 <= bar)
            limit = "–" if bar is None else f"≤ {bar}"
            print(f"| {number:,} | {_percentile(times, 0.5):.1f} | {p99:.1f} | {limit} |", flush=True)
        return good


def _print_unrest() -> None:
    """How far work that is always the same is from taking the same time: the machine's part of a 99th percentile."""
    times = []
    for _ in range(1000):
        started = time.perf_counter()
        sum(range(100_000))
        times.append((time.perf_counter() - started) * 1000)
    print(f"\nadding 100,000 numbers up: p50 {_percentile(times, 0.5):.1f} ms, p99 {_percentile(times, 0.99):.1f} ms")


def _wanted(sought: str) -> Wanted:
    return Wanted(Sought(sought), EVERYTHING, None, grouped=False)


def _exact_hits(connection: Connection, owner: str, sought: str) -> list[str]:
    page = search_page(connection, owner, _wanted(sought), limit=CHECKED_ROWS, offset=0)
    return [entry.image.id for entry in page.entries if entry.match == "exact"]


def _agrees(page: EntryPage, total: int, ids: list[str]) -> bool:
    """With what LIKE has found: how many in all, and the first of them. Hits by words may come after those."""
    exact = [entry.image.id for entry in page.entries if entry.match == "exact"]
    return exact == ids and (page.total_is_capped or page.total >= total)


def _like(connection: Connection, owner: str, sought: str) -> tuple[int, list[str]]:
    values = {"owner": owner, "pattern": _pattern(sought)}
    total = connection.execute(_LIKE_TOTAL, values).scalar_one()
    return total, list(connection.execute(_LIKE_PAGE, values).scalars())


def _like_ids(connection: Connection, owner: str, sought: str) -> list[str]:
    return list(connection.execute(_LIKE_IDS, {"owner": owner, "pattern": _pattern(sought)}).scalars())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--queries", type=int, default=40, help="of each kind (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=25, help="of each query (default: %(default)s)")
    parser.add_argument("--likes", type=int, default=4, help="queries of each kind that LIKE has to answer")
    parser.add_argument("--check", type=int, default=2_000, help="substrings held against LIKE (default: %(default)s)")
    parser.add_argument("--only", default=",".join(STEPS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite: a server of this run's own")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the database there, or use the one there is")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(STEPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


async def _run(arguments: argparse.Namespace, url: str, path: Path) -> bool:
    database = open_database(url, path, 1)
    bench = Bench(database, arguments)
    try:
        return all([await getattr(bench, step)() for step in arguments.only.split(",")])
    finally:
        await database.close()


def main() -> int:
    arguments = _arguments()
    print(describe_machine())
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        path, url = folder / "search.db", ""
        if arguments.postgresql:
            server = stack.enter_context(running_postgres(folder, autovacuum="on", shared_buffers="1GB"))
            if "prepare" in arguments.only:
                server.sql("CREATE DATABASE searched")
            url = server.url("searched")
        if "prepare" in arguments.only:
            upgrade(url or sqlite_url(path))
        return 0 if asyncio.run(_run(arguments, url, path)) else 1


if __name__ == "__main__":
    sys.exit(main())
