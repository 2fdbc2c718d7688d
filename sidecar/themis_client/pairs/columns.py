"""The file of pairs: its columns, as TRL's DPOTrainer and people read them."""

from __future__ import annotations

from typing import Any

from themis_client.pairs.choice import Pair
from themis_client.pairs.prompt import Prompt


def row(prompt: Prompt, pair: Pair, line: int, scenario: str, by: str, version: str) -> dict[str, Any]:
    """One pair. No column is of one type in some rows and of another, or of none, in others: readers settle the types
    by a file's first rows."""
    apart = [mark.disagreement for mark in (pair.chosen, pair.rejected) if mark.disagreement is not None]
    return {
        "prompt": prompt.prompt,
        "chosen": prompt.responses[pair.chosen.index],
        "rejected": prompt.responses[pair.rejected.index],
        "margin": pair.margin,
        "tie": pair.tie,
        "chosen_score": pair.chosen.score,
        "rejected_score": pair.rejected.score,
        "chosen_index": pair.chosen.index,
        "rejected_index": pair.rejected.index,
        "disagreement": max(apart, default=None),
        "by": by,
        "version": version,
        "scenario": scenario,
        "id": prompt.id,
        "line": line,
    }


def schema(arrow: Any, chat: bool) -> Any:
    """The same columns for Parquet."""
    text, number = arrow.string(), arrow.float64()
    turns = arrow.list_(arrow.struct([("role", text), ("content", text)]))
    return arrow.schema(
        [
            *((name, turns if chat else text) for name in ("prompt", "chosen", "rejected")),
            ("margin", number),
            ("tie", arrow.bool_()),
            ("chosen_score", number),
            ("rejected_score", number),
            ("chosen_index", arrow.int32()),
            ("rejected_index", arrow.int32()),
            ("disagreement", number),
            *((name, text) for name in ("by", "version", "scenario", "id")),
            ("line", arrow.int64()),
        ]
    )
