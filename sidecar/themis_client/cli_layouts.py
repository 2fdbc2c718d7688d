"""How scores and comparisons look in each format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from themis_client.cli_output import Layout
from themis_client.failure import Failure
from themis_client.jsonform import compare_json, score_json
from themis_client.results import Compared, RatingProbability, Score, TokenCounts

BARS = "▁▂▃▄▅▆▇█"

# ---------------------------------------------------------------- scores


def bars(probabilities: Sequence[RatingProbability]) -> str:
    """One character per rating, as high as its probability."""
    return "".join(BARS[max(0, min(7, round(one.probability * 7)))] for one in probabilities)


def _score_cells(result: Score | Failure) -> Sequence[str]:
    if isinstance(result, Failure):
        return (result.key, result.scenario, "", "", "", f"{result.status.name}: {_one_line(result.error)}")
    rating, score = f"{result.expected_rating:.2f}", f"{result.score:.3f}"
    return (result.key, result.scenario, rating, bars(result.probabilities), score, "OK")


def _score_columns(result: Score | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return _failure_columns(result) | {"group": result.group}
    return {
        "key": result.key,
        "group": result.group,
        "status": "OK",
        "score": result.score,
        "expected_rating": result.expected_rating,
        "rating": result.rating,
        "probabilities": [{"rating": one.rating, "probability": one.probability} for one in result.probabilities],
        "label_mass": result.label_mass,
        "entropy": result.entropy,
        "scenario": result.scenario,
        "version": result.version,
        "template_digest": result.template_digest,
        "truncated_tokens": result.truncated_tokens,
        "prompt": result.prompt,
        "result_json": score_json(result),
    } | _token_columns(result.tokens)


def _score_schema(arrow: Any) -> Any:
    text, number, count = arrow.string(), arrow.float64(), arrow.int32()
    probability = arrow.struct([("rating", count), ("probability", number)])
    return arrow.schema(
        [
            *((name, text) for name in ("key", "group", "status", "error", "error_field")),
            ("score", number),
            ("expected_rating", number),
            ("rating", count),
            ("probabilities", arrow.list_(probability)),
            ("label_mass", number),
            ("entropy", number),
            *((name, text) for name in ("scenario", "version", "template_digest")),
            ("truncated_tokens", count),
            *((name, count) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
            ("prompt", text),
            ("result_json", text),
        ]
    )


def _score_notes(result: Score) -> Sequence[str]:
    critique = result.critique
    points = [
        *(f"+ ({point.rating}) {point.text}" for point in (critique.strengths if critique else ())),
        *(f"- ({point.rating}) {point.text}" for point in (critique.shortcomings if critique else ())),
        *(f"{one.id}: {one.expected_rating:.2f} {bars(one.probabilities)}" for one in result.criteria),
        *(f"({one.expected_rating:.2f}) {one.reasons}" for one in result.samples),
    ]
    return points if result.prompt is None else [*points, f"prompt:\n{result.prompt}"]


SCORES: Layout[Score] = Layout(
    headers=("key", "scenario", "rating", "distribution", "score", "status"),
    cells=_score_cells,
    columns=_score_columns,
    schema=_score_schema,
    json=score_json,
    notes=_score_notes,
)

# ---------------------------------------------------------------- comparisons


def _compare_cells(result: Compared | Failure) -> Sequence[str]:
    if isinstance(result, Failure):
        return (result.key, result.scenario, "", "", "", f"{result.status.name}: {_one_line(result.error)}")
    chances = (result.probability_a, result.probability_b, result.probability_tie)
    shown = " ".join(f"{name} {chance:.2f}" for name, chance in zip(("A", "B", "tie"), chances, strict=True))
    apart = "" if result.order_disagreement is None else f"{result.order_disagreement:.2f}"
    return (result.key, result.scenario, result.preference, shown, apart, "OK")


def _compare_columns(result: Compared | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return _failure_columns(result)
    return {
        "key": result.key,
        "status": "OK",
        "preference": result.preference,
        "probability_a": result.probability_a,
        "probability_b": result.probability_b,
        "probability_tie": result.probability_tie,
        "order_disagreement": result.order_disagreement,
        "label_mass": result.label_mass,
        "scenario": result.scenario,
        "version": result.version,
        "template_digest": result.template_digest,
        "prompts": list(result.prompts),
        "result_json": compare_json(result),
    } | _token_columns(result.tokens)


def _compare_schema(arrow: Any) -> Any:
    text, number, count = arrow.string(), arrow.float64(), arrow.int32()
    numbers = ("probability_a", "probability_b", "probability_tie", "order_disagreement", "label_mass")
    return arrow.schema(
        [
            *((name, text) for name in ("key", "status", "error", "error_field", "preference")),
            *((name, number) for name in numbers),
            *((name, text) for name in ("scenario", "version", "template_digest")),
            *((name, count) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
            ("prompts", arrow.list_(text)),
            ("result_json", text),
        ]
    )


def _compare_notes(result: Compared) -> Sequence[str]:
    return [f"prompt:\n{prompt}" for prompt in result.prompts]


COMPARISONS: Layout[Compared] = Layout(
    headers=("key", "scenario", "better", "probabilities", "disagreement", "status"),
    cells=_compare_cells,
    columns=_compare_columns,
    schema=_compare_schema,
    json=compare_json,
    notes=_compare_notes,
)

# ---------------------------------------------------------------- common


def _failure_columns(failure: Failure) -> dict[str, Any]:
    texts = {"key": failure.key, "error": failure.error, "error_field": failure.field}
    sendable = {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
    return sendable | {"status": failure.status.name, "scenario": failure.scenario, "version": failure.version}


def _token_columns(tokens: TokenCounts) -> dict[str, int]:
    return {
        "prompt_tokens": tokens.prompt,
        "cached_tokens": tokens.cached,
        "completion_tokens": tokens.completion,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())
