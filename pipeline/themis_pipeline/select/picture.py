"""A selection as a picture: how difficulties are distributed, and what was dropped where. Needs matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from themis_pipeline.select.outcome import Decision, Outcome, Reason

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
COLUMNS, PANEL_INCHES, DPI = 3, (5.2, 3.1), 100
BINS = 40
INK, FAINT = "#333333", "#888888"
COLORS = {
    Reason.KEPT: "#4a9b5b",
    Reason.NOT_CHOSEN: "#b8d4c0",
    Reason.NOT_ASKED: "#d9d9d9",
    Reason.SOURCE_CAP: "#17a2b8",
    Reason.ABOVE_ONE: "#e0a030",
    Reason.OUTLIER: "#c0392b",
    Reason.TRIGGER: "#7d3c98",
    Reason.NEAR_DUPLICATE: "#5b8cc8",
    Reason.INCOMPLETE_PAIR: "#a67c52",
    Reason.OTHER_SCORER: "#555555",
    Reason.REPEATED: "#2c3e50",
    Reason.OWN_LINEAGE: "#e377c2",
}


def draw(outcome: Outcome, path: Path, words: str) -> None:
    """A PNG or an SVG, by the path's suffix; one panel for all and one per scenario, on one scale. words: what was
    asked for, under the title. Raises OSError."""
    scored = [decision for decision in outcome.decisions if decision.difficulty is not None]
    scenarios = sorted({decision.scenario for decision in scored})
    panels = [("all scenarios", scored)] if len(scenarios) != 1 else []
    panels += [(name, [decision for decision in scored if decision.scenario == name]) for name in scenarios]
    rows = math.ceil(len(panels) / COLUMNS)
    columns = min(COLUMNS, len(panels))
    with matplotlib.rc_context({"svg.hashsalt": "themis", "font.size": 10, "axes.edgecolor": FAINT}):
        width, height = max(columns, 2) * PANEL_INCHES[0], rows * PANEL_INCHES[1] + 1.5
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        figure.suptitle(_headline(outcome, words), x=0.01, ha="left", color=INK, fontsize=12)
        edges = _edges(scored, outcome.limit)
        for place, (name, decisions) in enumerate(panels):
            _panel(figure.add_subplot(rows, columns, place + 1), name, decisions, edges, outcome)
        _legend(figure, scored)
        figure.savefig(path, format=path.suffix.removeprefix("."))


def _headline(outcome: Outcome, words: str) -> str:
    unscored = sum(decision.difficulty is None for decision in outcome.decisions)
    told = f"; {unscored} without a difficulty are not shown" if unscored else ""
    return f"{len(outcome.kept)} of {len(outcome.decisions)} records kept{told}\n{words}"


def _edges(scored: list[Decision], limit: float) -> list[float]:
    """Bins on which `limit` is an edge, from the lowest value to somewhat above the bulk: what lies beyond stands in
    the last one, so that one wild value doesn't squeeze all others."""
    values = sorted(decision.difficulty for decision in scored if decision.difficulty is not None)
    if not values:
        return [limit - 1, limit, limit + 1]
    bulk = values[min(len(values) - 1, int(0.99 * len(values)))]
    low, high = min(values[0], limit), max(bulk, limit)
    step = (high - low) / (BINS - 2) or 1 / BINS
    below = math.ceil((limit - low) / step + 1e-9)
    above = math.ceil((high - limit) / step + 1e-9) + 1
    return [limit + step * place for place in range(-below, above + 1)]


def _panel(axes: Axes, name: str, decisions: list[Decision], edges: list[float], outcome: Outcome) -> None:
    last = (edges[-2] + edges[-1]) / 2
    present = [reason for reason in COLORS if any(decision.reason is reason for decision in decisions)]
    values = [
        [min(one.difficulty, last) for one in decisions if one.reason is reason and one.difficulty is not None]
        for reason in present
    ]
    if present:
        colors = [COLORS[reason] for reason in present]
        axes.hist(values, bins=edges, stacked=True, color=colors, edgecolor="white", linewidth=0.3)
    axes.axvline(outcome.limit, color=INK, linewidth=1, linestyle="--")
    kept = sum(decision.kept for decision in decisions)
    beyond = sum(one.difficulty is not None and one.difficulty > edges[-1] for one in decisions)
    more = f", {beyond} beyond the scale" if beyond else ""
    axes.set_title(f"{name}: {kept} of {len(decisions)} kept{more}", loc="left", color=INK, fontsize=10)
    axes.set_xlabel("difficulty", color=FAINT, fontsize=9)
    axes.set_ylabel("records", color=FAINT, fontsize=9)
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=FAINT)


def _legend(figure: Figure, scored: list[Decision]) -> None:
    present = [reason for reason in COLORS if any(decision.reason is reason for decision in scored)]
    handles: list[Patch | Line2D] = [Patch(color=COLORS[reason], label=reason.value) for reason in present]
    handles.append(Line2D([], [], color=INK, linewidth=1, linestyle="--", label="the prompt harms above"))
    figure.legend(handles=handles, loc="outside lower left", ncols=5, frameon=False, fontsize=9)
