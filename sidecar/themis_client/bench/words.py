"""Figures as people read them."""

from __future__ import annotations

from themis_client.bench.shape import Shape


def seconds(value: float) -> str:
    """1.23 s, 45.6 ms, 78 µs."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}" if value * factor < 1000 else f"{value * factor:,.0f} {unit}"
    return f"{value * 1e6:.0f} µs" if value else "0"


def rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    return "not told" if value is None else f"{value:.0%}" if value >= 0.1 or not value else f"{value:.1%}"


def shape(shape: Shape) -> str:
    """One sentence on what is sent."""
    scenario = f"scenario {shape.scenario}" if shape.scenario else "scenario left to the judge"
    items = (
        f"prompts of {shape.prompt_words} words, responses of {shape.response_words}, {shape.group_size} per "
        f"conversation; mode {shape.mode}, {scenario}"
    )
    return f"{items}; {_load(shape)}; seed {shape.seed}" + (f", run {shape.run}" if shape.run else ", texts repeat")


def _load(shape: Shape) -> str:
    callers = "1 caller" if shape.callers == 1 else f"{shape.callers} callers"
    if shape.stream:
        how = f"{callers}, a stream each"
        closed = f"{how}, {shape.items_per_call} items in the air per stream"
    else:
        how = f"{callers}, {shape.items_per_call} items per call"
        closed = f"{how}, each waiting for its answer"
    return closed if shape.rate is None else f"{how}, {shape.rate:g} items/s whatever happens (Poisson)"
