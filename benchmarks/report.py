"""Numbers of several rounds, side by side: medians of each server, and the median of the rounds' own ratios."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmarks.targets import TargetName

_LABEL_WIDTH = 60
_COLUMN_WIDTH = 12


@dataclass(slots=True)
class Row:
    """One measure, a value a round and server. `is_bar` marks those that the project holds itself to."""

    label: str
    unit: str
    is_bar: bool
    values: dict[TargetName, list[float]] = field(default_factory=dict)

    def median_of(self, target: TargetName) -> float | None:
        return median(self.values[target]) if target in self.values else None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the floor's of the same round, the median over rounds: what drifts between rounds cancels."""
        pairs = zip(self.values.get("ours", ()), self.values.get("floor", ()), strict=False)
        ratios = [ours / floor for ours, floor in pairs if floor]
        return median(ratios) if ratios else None


@dataclass(slots=True)
class Table:
    title: str
    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, label: str, unit: str, target: TargetName, value: float, is_bar: bool = False) -> None:
        row = self.rows.setdefault(label, Row(label, unit, is_bar))
        row.values.setdefault(target, []).append(value)

    def lines(self) -> Iterator[str]:
        yield self.title
        heads = "".join(head.rjust(_COLUMN_WIDTH) for head in ("ours", "floor", "ours/floor"))
        yield "".ljust(_LABEL_WIDTH) + heads
        for name, row in self.rows.items():
            cells = (_number(row.median_of("ours")), _number(row.median_of("floor")), _ratio(row.ratio))
            label = f"{'*' if row.is_bar else ' '} {name} [{row.unit}]"
            yield label.ljust(_LABEL_WIDTH) + "".join(cell.rjust(_COLUMN_WIDTH) for cell in cells)


def summary(tables: list[Table]) -> Iterator[str]:
    """The measures that are bars, and nothing else."""
    bars = Table("bars")
    for table in tables:
        area = table.title.partition(":")[0]
        bars.rows |= {f"{area}: {row.label}": row for row in table.rows.values() if row.is_bar}
    yield from bars.lines()


def as_json(tables: list[Table]) -> list[dict[str, object]]:
    """Every value of every round."""
    return [
        {"table": table.title, "measure": row.label, "unit": row.unit, "values": row.values, "ratio": row.ratio}
        for table in tables
        for row in table.rows.values()
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
