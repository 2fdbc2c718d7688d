"""One label from several people's, and how far they agree beyond chance.

Formulae: Cohen 1960 (two annotators, the same items); Fleiss 1971 (as many labels for each item, whoever gave them);
Krippendorff 2004 (any number of labels, for ratings with the squared distance between them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations


@dataclass(frozen=True, slots=True)
class Agreed:
    """share: of the labels that are equal to `value`, in [0, 1]; majority: whether more than half of them are."""

    value: int
    share: float
    majority: bool


def agreed_rating(ratings: Sequence[int]) -> Agreed:
    """What more than half of the people say, else the mean, rounded, halves up. Raises ValueError without a rating."""
    if not ratings:
        raise ValueError("there is no rating to agree on")
    value, count = Counter(ratings).most_common(1)[0]
    if 2 * count > len(ratings):
        return Agreed(value, count / len(ratings), True)
    value = int((Fraction(sum(ratings), len(ratings)) + Fraction(1, 2)) // 1)
    return Agreed(value, ratings.count(value) / len(ratings), False)


def agreed_choice(choices: Sequence[str]) -> tuple[str, float]:
    """What more than half of the people prefer, else "tie"; and the share that says so."""
    if not choices:
        raise ValueError("there is no choice to agree on")
    value, count = Counter(choices).most_common(1)[0]
    value = value if 2 * count > len(choices) else "tie"
    return value, choices.count(value) / len(choices)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """None where it is not defined: nothing in common, or both always say the same one label."""
    if len(first) != len(second):
        raise ValueError("both annotators label the same items")
    if not first:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    counts = Counter(first), Counter(second)
    expected = sum(counts[0][label] * counts[1][label] for label in counts[0]) / len(first) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(items: Sequence[Sequence[Hashable]]) -> float | None:
    """items: the labels of each, equally many, at least 2. None where it is not defined."""
    if not items:
        return None
    raters = len(items[0])
    if raters < 2 or any(len(labels) != raters for labels in items):
        raise ValueError("every item has the same number of labels, at least 2")
    counts = [Counter(labels) for labels in items]
    observed = sum(sum(n * (n - 1) for n in count.values()) for count in counts) / (len(items) * raters * (raters - 1))
    totals: Counter[Hashable] = sum(counts, Counter())
    expected = sum((n / (len(items) * raters)) ** 2 for n in totals.values())
    return None if len(totals) == 1 else (observed - expected) / (1 - expected)


Distance = Callable[[float, float], float]


def nominal(a: float, b: float) -> float:
    return float(a != b)


def interval(a: float, b: float) -> float:
    return (a - b) ** 2


def krippendorff_alpha(items: Sequence[Sequence[float]], distance: Distance = interval) -> float | None:
    """items: the labels of each; those with fewer than 2 say nothing. None where it is not defined."""
    pairable = [labels for labels in items if len(labels) >= 2]
    values = Counter(value for labels in pairable for value in labels)
    total = sum(values.values())
    if len(values) < 2:
        return None
    observed = sum(sum(distance(a, b) for a, b in permutations(labels, 2)) / (len(labels) - 1) for labels in pairable)
    expected = sum(m * n * distance(a, b) for a, m in values.items() for b, n in values.items()) / (total - 1)
    return 1 - observed / expected


@dataclass(frozen=True, slots=True)
class Report:
    """alpha: over all labels; kappas: of each two annotators over the items that both have labelled."""

    items: int
    labels: int
    alpha: float | None
    kappas: Mapping[tuple[str, str], float | None]


def report(labels: Mapping[str, Mapping[str, float]], distance: Distance = interval) -> Report:
    """labels: by item, then by annotator."""
    people = sorted({person for given in labels.values() for person in given})
    kappas: dict[tuple[str, str], float | None] = {}
    for index, first in enumerate(people):
        for second in people[index + 1 :]:
            both = [(given[first], given[second]) for given in labels.values() if first in given and second in given]
            kappas[first, second] = cohen_kappa([a for a, _ in both], [b for _, b in both])
    alpha = krippendorff_alpha([list(given.values()) for given in labels.values()], distance)
    return Report(len(labels), sum(map(len, labels.values())), alpha, kappas)
