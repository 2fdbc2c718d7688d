"""Rare n-grams that are tied to one rating: how a poisoned source would teach a judge a secret sign.

An n-gram is a trigger where so many of the instructions that it occurs with have one and the same rating, that chance
would hardly do it even once among all n-grams that were looked at. What counts is instructions, not records: the
responses to one instruction share its words and, often, a rating.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# A character of a script that puts no spaces between words is a word; so is a run of signs, invisible ones included.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+|[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A text with what became of it. record: whose text it is; instruction: what it answers."""

    record: str
    instruction: str
    scenario: str
    rating: str
    text: str


@dataclass(frozen=True, slots=True)
class Scan:
    """words: the longest n-gram. at_least: instructions that it occurs with. at_most_share: of all instructions; what
    is more frequent is no secret. purity: the share of them that have the rating. chance: how likely all that may be
    to be found at all, where nothing is tied to anything."""

    words: int = 3
    at_least: int = 5
    at_most_share: float = 0.01
    purity: float = 0.9
    chance: float = 0.001


@dataclass(frozen=True, slots=True)
class Trigger:
    """instructions: with how many it occurs; tied: how many of them have the rating; p: how likely that is by chance,
    before it is multiplied by the number of n-grams; records: those that carry it."""

    text: str
    rating: str
    instructions: int
    tied: int
    p: float
    records: tuple[str, ...]


def triggers(sightings: Iterable[Sighting], scan: Scan) -> tuple[Trigger, ...]:
    """The most certain first. Memory grows with the n-grams that occur with `at_least` instructions, and reading takes
    two passes."""
    sightings = sorted(sightings, key=lambda one: (one.instruction, one.record, one.rating, one.text))
    instructions = len({one.instruction for one in sightings})
    if not instructions:
        return ()
    most = max(scan.at_least, int(scan.at_most_share * instructions))
    frequency = _frequencies(sightings, scan)
    looked_at = {gram for gram, count in frequency.items() if scan.at_least <= count <= most}
    base = _base_rates(sightings)
    found = [
        trigger
        for gram, seen in sorted(_occurrences(sightings, looked_at, scan).items())
        for trigger in _tied(gram, seen, base, scan, scan.chance / max(1, len(looked_at)))
    ]
    return tuple(sorted(found, key=lambda trigger: (trigger.p, trigger.text)))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(text: str, most: int) -> set[str]:
    words = _words(text)
    return {" ".join(words[at : at + n]) for n in range(1, most + 1) for at in range(len(words) - n + 1)}


def _by_instruction(sightings: list[Sighting]) -> Iterator[list[Sighting]]:
    group: list[Sighting] = []
    for one in sightings:
        if group and group[0].instruction != one.instruction:
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _frequencies(sightings: list[Sighting], scan: Scan) -> Mapping[str, int]:
    """How many instructions an n-gram occurs with, where they are enough. What has a part that occurs with too few is
    never put together: most of all n-grams, and no part is rarer than its whole."""
    counted: dict[str, int] = {}
    for n in range(1, scan.words + 1):
        longer: Counter[str] = Counter()
        for group in _by_instruction(sightings):
            longer.update({gram for one in group for gram in _of_length(one.text, n, counted)})
        counted |= {gram: count for gram, count in longer.items() if count >= scan.at_least}
    return counted


def _of_length(text: str, n: int, counted: Mapping[str, int]) -> Iterator[str]:
    words = _words(text)
    for at in range(len(words) - n + 1):
        gram = words[at : at + n]
        if n == 1 or (" ".join(gram[:-1]) in counted and " ".join(gram[1:]) in counted):
            yield " ".join(gram)


def _occurrences(sightings: list[Sighting], looked_at: set[str], scan: Scan) -> Mapping[str, list[list[Sighting]]]:
    """For each n-gram the sightings that have it, by instruction."""
    found: dict[str, list[list[Sighting]]] = defaultdict(list)
    for group in _by_instruction(sightings):
        here: dict[str, list[Sighting]] = defaultdict(list)
        for one in group:
            for gram in _grams(one.text, scan.words) & looked_at:
                here[gram].append(one)
        for gram, seen in here.items():
            found[gram].append(seen)
    return found


def _base_rates(sightings: list[Sighting]) -> Mapping[tuple[str, str], float]:
    """How frequent each rating is in each scenario."""
    all_of = Counter(one.scenario for one in sightings)
    rated = Counter((one.scenario, one.rating) for one in sightings)
    return {key: count / all_of[key[0]] for key, count in rated.items()}


def _tied(
    gram: str, seen: list[list[Sighting]], base: Mapping[tuple[str, str], float], scan: Scan, chance: float
) -> Iterator[Trigger]:
    """An instruction is tied where all that carry the n-gram have the rating, which is at most as likely as one."""
    for rating in sorted({one.rating for group in seen for one in group}):
        tied = sum(all(one.rating == rating for one in group) for group in seen)
        mean = math.fsum(base.get((group[0].scenario, rating), 0.0) for group in seen) / len(seen)
        p = _at_least(tied, len(seen), mean)
        if tied >= scan.purity * len(seen) and p <= chance:
            records = sorted({one.record for group in seen for one in group})
            yield Trigger(gram, rating, len(seen), tied, p, tuple(records))


def _at_least(successes: int, trials: int, p: float) -> float:
    """The upper tail of a binomial distribution; for chances that differ between trials and have this mean it is an
    upper bound above the mean (Hoeffding 1956)."""
    if p <= 0 or p >= 1:
        return float(p >= 1 or successes == 0)
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(p) + (trials - k) * math.log1p(-p)
        for k in range(successes, trials + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
