"""From label probabilities to ratings, and from generated text to critiques."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from themis_judge.engines.base import LabelScores
from themis_judge.items import Critique, Distribution, Point, Verdict


def distribution(ratings: Sequence[int], scores: LabelScores) -> Distribution | None:
    """The ratings' distribution, renormalised over the labels; its mass tells how much of the vocabulary's
    probability that was. None where the engine found no label at all."""
    if scores.logprobs is None:
        if scores.chosen is None:
            return None
        chosen = ratings[scores.chosen]
        return Distribution(tuple(ratings), None, None, float(chosen), chosen)
    probabilities, mass = normalised(scores.logprobs)
    if probabilities is None:
        return None
    expected = sum(rating * p for rating, p in zip(ratings, probabilities, strict=True))
    best = max(range(len(ratings)), key=lambda i: (probabilities[i], -ratings[i]))
    return Distribution(tuple(ratings), probabilities, mass, expected, ratings[best])


def normalised(logprobs: Sequence[float]) -> tuple[tuple[float, ...] | None, float]:
    """Probabilities among the labels (None if all are 0), and their mass under the full vocabulary."""
    if any(math.isnan(logprob) for logprob in logprobs):
        return None, 0.0
    highest = max(logprobs)
    if highest == -math.inf:
        return None, 0.0
    weights = [math.exp(logprob - highest) for logprob in logprobs]
    total = sum(weights)
    return tuple(weight / total for weight in weights), min(1.0, total * math.exp(highest))


def mixture(parts: Sequence[tuple[float, Distribution]]) -> Distribution:
    """The weighted mean of distributions over the same ratings; weights sum to 1."""
    ratings = parts[0][1].ratings
    expected = sum(weight * part.expected for weight, part in parts)
    masses = [part.label_mass for _, part in parts if part.label_mass is not None]
    mass = min(masses) if len(masses) == len(parts) else None
    if any(part.probabilities is None for _, part in parts):
        nearest = min(ratings, key=lambda rating: (abs(rating - expected), rating))
        return Distribution(ratings, None, mass, expected, nearest)
    probabilities = tuple(
        sum(weight * part.probabilities[i] for weight, part in parts if part.probabilities) for i in range(len(ratings))
    )
    best = max(range(len(ratings)), key=lambda i: (probabilities[i], -ratings[i]))
    return Distribution(ratings, probabilities, mass, expected, ratings[best])


def verdict_of(rating: Distribution) -> Verdict:
    low, high = rating.ratings[0], rating.ratings[-1]
    score = min(1.0, max(0.0, (rating.expected - low) / (high - low)))
    return Verdict(rating, score, entropy(rating.probabilities))


def entropy(probabilities: Sequence[float] | None) -> float | None:
    """In nats."""
    if probabilities is None:
        return None
    return -sum(p * math.log(p) for p in probabilities if p > 0.0)


# ---------------------------------------------------------------------------------------------------- critique

_POINT = re.compile(r"^- (?P<text>.+?)\s*\[\[(?P<rating>-?\d+)\]\]\s*$")


def critique_grammar(low: int, high: int, max_points: int, max_point_chars: int, rating_first: bool) -> str:
    """EBNF of what follows the prefilled rating (`rating_first`) or comes before it."""
    ratings = " | ".join(f'"{rating}"' for rating in range(low, high + 1))
    opening = '"]]\\n"' if rating_first else '""'
    return (
        f'root ::= {opening} "Strengths:\\n" points "Shortcomings:\\n" points\n'
        f"points ::= point{{1,{max_points}}}\n"
        f'point ::= "- " first rest{{0,{max_point_chars - 1}}} " [[" rating "]]\\n"\n'
        "first ::= [^\\[\\]\\n\\r\\t -]\n"
        "rest ::= [^\\[\\]\\n\\r\\t]\n"
        f"rating ::= {ratings}\n"
    )


def parse_critique(text: str, ratings: Sequence[int]) -> Critique | None:
    """The points of a critique; None if the text isn't one (a heading missing, a point without a rating on the
    scale, nothing after a heading)."""
    lists: dict[str, list[Point]] = {}
    current: list[Point] | None = None
    for line in text.removeprefix("]]").split("\n"):  # splitlines() knows more ends of lines than the grammar
        line = line.strip()
        heading = line.rstrip(":").lower()
        if heading in ("strengths", "shortcomings") and heading not in lists:
            current = lists[heading] = []
        elif line:
            match = _POINT.match(line)
            if current is None or match is None or int(match["rating"]) not in ratings:
                return None
            current.append(Point(match["text"], int(match["rating"])))
    if len(lists) < 2 or not all(lists.values()):
        return None
    return Critique(tuple(lists["strengths"]), tuple(lists["shortcomings"]), text)
