"""What benchmarks share: interleaved measurements, ratios with intervals, a table, a JSON file."""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent / "out"
REPETITIONS = 5
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float
    unit: str


def ratio(name: str, ours: Sequence[float], peers: Sequence[float], unit: str = "ratio") -> Row:
    """The geometric mean of ours / peers, pair by pair, with a 95 % bootstrap interval.

    Each pair was measured side by side; both are rates, so that above 1 is better than the peer.
    """
    logs = [math.log(a / b) for a, b in zip(ours, peers, strict=True)]
    if len(logs) < REPETITIONS:
        raise ValueError(f"{name}: {len(logs)} repetitions; at least {REPETITIONS} are needed")
    chance = random.Random(0)
    means = sorted(statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(_RESAMPLES))
    low, high = means[int(0.025 * _RESAMPLES)], means[int(0.975 * _RESAMPLES)]
    return Row(name, math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high), unit)


def rate(name: str, values: Sequence[float], unit: str) -> Row:
    """The median of repetitions, with their extremes."""
    return Row(name, statistics.median(values), min(values), max(values), unit)


def count(name: str, value: int, unit: str) -> Row:
    """Something that was counted over the whole run."""
    return Row(name, value, value, value, unit)


def slope(name: str, xs: Sequence[float], ys: Sequence[float], unit: str) -> Row:
    """The least-squares slope of y over x, with its 95 % interval under normal errors."""
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    value = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    residuals = [y - mean_y - value * (x - mean_x) for x, y in zip(xs, ys, strict=True)]
    error = math.sqrt(sum(r * r for r in residuals) / (len(xs) - 2) / spread)
    return Row(name, value, value - 1.96 * error, value + 1.96 * error, unit)


def report(benchmark: str, rows: Sequence[Row], bars: dict[str, tuple[str, float]], notes: Sequence[str] = ()) -> None:
    """Prints the table and writes out/NAME.json. bars: by row name, "at least" or "at most" and a number."""
    table = Table(title=f"benchmarks/{benchmark}.py")
    for column in ("row", "value", "95 % interval", "unit", "bar"):
        table.add_column(column, justify="left" if column in ("row", "unit", "bar") else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, f"{row.value:.3g}", f"{row.low:.3g} to {row.high:.3g}", row.unit, _verdict(row, bars))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for note in notes:
        console.print(f"  {note}", highlight=False)
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{benchmark}.json"
    path.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {path.relative_to(Path(__file__).parent.parent)}")


def _verdict(row: Row, bars: dict[str, tuple[str, float]]) -> str:
    if row.name not in bars:
        return ""
    kind, bar = bars[row.name]
    met = row.value >= bar if kind == "at least" else row.value <= bar
    return f"{kind} {bar:g}: {'met' if met else '[bold]missed[/bold]'}"
