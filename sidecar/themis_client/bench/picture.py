"""A run as a picture. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from themis_client.bench import words
from themis_client.bench.run import Outcome
from themis_client.bench.summary import STAGES, Spread
from themis_client.bench.verdicts import warnings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
WIDTH_PX, HEIGHT_PX, DPI = 1500, 1000, 100
COLORS = {"queued": "#e0a030", "tokenised": "#b070c0", "computed": "#4a9b5b", "rest": "#5b8cc8"}
OK, FAILED, REFUSED, INK, FAINT = "#4a9b5b", "#c0392b", "#e0a030", "#333333", "#888888"
BINS = 60
TIGHT = {"borderaxespad": 0.2, "handlelength": 1.0, "columnspacing": 1.0, "handletextpad": 0.4}


def draw(outcome: Outcome, path: Path) -> None:
    """A PNG or an SVG, by the path's suffix. Raises OSError."""
    with matplotlib.rc_context({"svg.hashsalt": "themis", "font.size": 11, "axes.edgecolor": FAINT}):
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, layout="constrained")
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        places = figure.subplot_mosaic(
            [["head", "head"], ["latency", "stages"], ["time", "time"]], height_ratios=[0.9, 4, 4], width_ratios=[3, 2]
        )
        _headline(outcome, places["head"])
        _distribution(outcome, places["latency"])
        _stages(outcome, places["stages"])
        _timeline(outcome, places["time"])
        figure.savefig(path, format=path.suffix.removeprefix("."))


def _headline(outcome: Outcome, axes: Axes) -> None:
    summary = outcome.summary
    axes.axis("off")
    figures = f"{words.rate(summary.items_per_s)} items/s    {words.rate(summary.tokens_per_s)} tokens/s"
    if summary.latency is not None:
        figures += f"    p50 {words.seconds(summary.latency.p50)}    p99 {words.seconds(summary.latency.p99)}"
    axes.text(0.0, 0.98, f"themis bench {outcome.target}: {figures}", fontsize=17, color=INK, va="top", weight="bold")
    axes.text(0.0, 0.42, words.shape(outcome.shape), fontsize=10, color=FAINT, va="top")
    found = warnings(outcome)
    if found:
        axes.text(0.0, 0.0, f"! {found[0]}", fontsize=10, color=FAILED, va="top")


def _distribution(outcome: Outcome, axes: Axes) -> None:
    """Up to somewhat more than the p99; what is slower stands in the last bar, and in words."""
    latency = outcome.summary.latency
    _frame(axes, "latency of items that were scored", "seconds from when it was due", "items")
    if latency is None:
        _nothing(axes)
        return
    end = min(latency.max, max(1.5 * latency.p99, 3 * latency.p90)) or 1.0
    values = [min(entry.latency_s, end) for entry in outcome.entries if entry.ok]
    axes.hist(values, bins=BINS, range=(0.0, end), color=COLORS["rest"], edgecolor="white", linewidth=0.3)
    axes.set_xlim(0.0, end * 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    top = axes.get_ylim()[1] * 1.22
    axes.set_ylim(0.0, top)
    for level, (name, value) in enumerate((("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99))):
        axes.axvline(value, color=INK, linewidth=1, linestyle="--")
        right = value > 0.75 * end
        axes.text(
            value, top * (0.97 - 0.06 * level), f"  {name} {words.seconds(value)}  ",
            color=INK, fontsize=10, va="top", ha="right" if right else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )  # fmt: skip
    if latency.max > end:
        axes.text(end, top * 0.5, f"slowest: {words.seconds(latency.max)} ", ha="right", color=FAILED, fontsize=10)


def _stages(outcome: Outcome, axes: Axes) -> None:
    """A stacked bar for the mean, and each stage's percentiles beside it: percentiles can't be stacked."""
    found = {name: outcome.summary.stages[name] for name in STAGES if name in outcome.summary.stages}
    _frame(axes, "time by stage", "seconds", "")
    if not found:
        _nothing(axes)
        return
    rows: list[tuple[str, str]] = [("mean", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99")]
    height = 0.8 / len(found)
    for row, (_, field) in enumerate(rows):
        for place, (name, spread) in enumerate(found.items()):
            value = _value(spread, field)
            at = row + (place - (len(found) - 1) / 2) * height
            axes.barh(at, value, height=height * 0.9, color=COLORS[name], label=name if row == 0 else None)
            axes.text(value, at, f" {words.seconds(value)}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0.0, (axes.get_xlim()[1] or 1.0) * 1.15)
    axes.grid(visible=False, axis="y")
    _legend(axes)


def _timeline(outcome: Outcome, axes: Axes) -> None:
    summary = outcome.summary
    _frame(axes, "items over time", "seconds after the warm-up", "items/s")
    starts = [bucket.start_s for bucket in summary.timeline]
    ok = [bucket.ok / summary.bucket_s for bucket in summary.timeline]
    failed = [bucket.failed / summary.bucket_s for bucket in summary.timeline]
    width = summary.bucket_s * 0.92
    axes.bar(starts, ok, width=width, align="edge", color=OK, label="scored")
    if any(failed):
        axes.bar(starts, failed, width=width, bottom=ok, align="edge", color=FAILED, label="failed")
    if summary.refused_items:
        middle = [start + summary.bucket_s / 2 for start in starts]
        refused = [bucket.refused / summary.bucket_s for bucket in summary.timeline]
        axes.plot(
            middle, refused, color=REFUSED, linewidth=2, marker="o", markersize=3, label="refused, retried or not"
        )
    if outcome.shape.rate is not None:
        axes.axhline(outcome.shape.rate, color=INK, linewidth=1, linestyle="--", label="asked for")
    axes.set_xlim(0.0, max(summary.window_s, summary.bucket_s))
    axes.set_ylim(0.0, axes.get_ylim()[1] * 1.05)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """On the title's line, where no bar can be behind it."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=9, **TIGHT)


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.set_xlabel(x, color=FAINT)
    axes.set_ylabel(y, color=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT)
    axes.grid(visible=True, axis="both", color="#eeeeee")
    axes.set_axisbelow(True)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing was scored", ha="center", va="center", transform=axes.transAxes, color=FAINT)


def _value(spread: Spread, field: str) -> float:
    found: float = getattr(spread, field)
    return found
