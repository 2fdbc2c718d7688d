"""A run as JSON: what was asked for, what it came to, and each item, for those who want to compute more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from themis_client.bench.log import Entry
from themis_client.bench.run import Outcome
from themis_client.bench.verdicts import warnings

FORMAT = 1

_COLUMNS: dict[str, Callable[[Entry], Any]] = {
    "status": lambda entry: entry.status,
    "version": lambda entry: entry.version,
    "prompt_tokens": lambda entry: None if entry.tokens is None else entry.tokens.prompt,
    "cached_tokens": lambda entry: None if entry.tokens is None else entry.tokens.cached,
    "completion_tokens": lambda entry: None if entry.tokens is None else entry.tokens.completion,
    "queued_s": lambda entry: None if entry.timings is None else entry.timings.queued_s,
    "tokenised_s": lambda entry: None if entry.timings is None else entry.timings.tokenised_s,
    "computed_s": lambda entry: None if entry.timings is None else entry.timings.computed_s,
}


def write(outcome: Outcome, path: Path) -> None:
    """Raises OSError."""
    path.write_text(json.dumps(content(outcome), ensure_ascii=False) + "\n", encoding="utf-8")


def content(outcome: Outcome) -> dict[str, Any]:
    """Times end in _s (seconds). `items` are those that were due after the warm-up, times in it seconds after
    measuring began; a failed item's tokens and timings are null, never 0."""
    summary = outcome.summary
    described = outcome.description
    return {
        "format": FORMAT,
        "target": outcome.target,
        "shape": asdict(outcome.shape),
        "server": {
            "software": described.software_version,
            "current": described.current,
            "limits": asdict(described.limits),
        },
        "stopped": outcome.stopped,
        "cut_off_items": outcome.cut_off,
        "warm_up_items": outcome.warm_up_items,
        "warnings": warnings(outcome),
        "client": {"cpu_share": outcome.cpu_share, "late_p99_s": outcome.late_p99_s},
        "summary": asdict(summary)
        | {
            "items": summary.items,
            "items_per_s": summary.items_per_s,
            "tokens_per_s": summary.tokens_per_s,
            "computed_tokens_per_s": summary.computed_per_s,
            "cached_share": summary.cached_share,
        },
        "items": _items(outcome),
    }


def _items(outcome: Outcome) -> dict[str, list[Any]]:
    times = {
        name: [round(getattr(entry, name) - outcome.start_s, 6) for entry in outcome.entries]
        for name in ("due_s", "sent_s", "done_s")
    }
    return times | {name: [read(entry) for entry in outcome.entries] for name, read in _COLUMNS.items()}
