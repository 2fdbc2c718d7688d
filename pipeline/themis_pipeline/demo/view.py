"""The pipeline at work, as a table that is drawn again and again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from themis_pipeline.demo.figures import Figures
from themis_pipeline.demo.settings import BUDGET

COLUMNS = ("stage", "waiting", "in hand", "done", "put off", "dead", "left out", "model calls", "tokens")


def table(figures: Figures, stages: Sequence[str], elapsed_s: float) -> Table:
    """A row for each stage; `waiting` is the lag, `put off` what went to the stage's retry topic."""
    shown = Table(title=f"the pipeline after {elapsed_s:.0f} s", box=None, padding=(0, 1))
    for name in COLUMNS:
        shown.add_column(name, justify="left" if name == "stage" else "right")
    for stage in stages:
        shown.add_row(stage, *(str(count or "") for count in _counts(figures, stage)))
    shown.caption = (
        f"the models' answers cost {figures.amount('llm_cost_total'):.5f} of a budget of {BUDGET:g}, by made-up prices"
    )
    return shown


def _counts(figures: Figures, stage: str) -> tuple[int, ...]:
    in_hand = figures.of("in_hand_records", stage)
    return (
        max(0, figures.of("lag_records", stage) - in_hand),
        in_hand,
        figures.of("outcomes_total", stage, "done"),
        figures.of("outcomes_total", stage, "retried"),
        figures.of("outcomes_total", stage, "dead"),
        figures.of("dropped_total", stage),
        figures.of("llm_calls_total", stage),
        figures.of("llm_tokens_total", stage),
    )
