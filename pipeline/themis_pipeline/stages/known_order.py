"""Pairs of answers whose order is known by how they were made, so that no teacher has to say it.

`better` is the answer that was there; `worse` is another one to the same instruction that is worse by construction.
Which of both is longer must not tell the order: `matched` brings the worse one to the better one's length, from above
and from below.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from themis_judge.engines.base import Deadline
from themis_pipeline.stages import chance
from themis_pipeline.stages.code import CodeRunner, Outcome, mutants
from themis_pipeline.stages.quiz import FENCE
from themis_pipeline.stages.values import Opposites


class Made(str, Enum):
    SIBLING = "sibling"
    CORRUPTED_FACT = "corrupted_fact"
    FAILING_CODE = "failing_code"
    INJECTED_SUFFIX = "injected_suffix"


class LengthChange(str, Enum):
    NONE = "none"
    PADDED = "padded"
    SHORTENED = "shortened"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one instruction. change: what was done to the worse one's length."""

    better: str
    worse: str
    made: Made
    change: LengthChange = LengthChange.NONE


def sibling(answer: str, other_instruction: str, other_answer: str) -> Pair | None:
    """The answer to another instruction of the same call, which is good but answers something else; None where
    they are the same. Whether the instructions are unlike enough is to be seen before."""
    if not answer or not other_answer or answer in (other_answer, other_instruction):
        return None
    return Pair(answer, other_answer, Made.SIBLING)


def injected(answer: str, suffixes: Sequence[str], seed: int) -> Pair:
    """The same answer, with a sentence to the judge at its end."""
    suffix = chance.picked(suffixes, "suffix", seed)
    return Pair(answer, f"{answer}\n\n{suffix}", Made.INJECTED_SUFFIX)


# ------------------------------------------------------------------------------------------------ corrupted facts

_NUMBER = re.compile(r"(?<![\w.,:/-])\d{1,9}(?:\.\d{1,4})?(?![\w:/-]|[.,]\d)")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_COUNTED = re.compile(r"\b(?:step|part|figure|table|case|question|example|line|option|note)\s+$", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)


def corrupted(answer: str, opposites: Opposites, seed: int) -> Pair | None:
    """One number or one word of the answer changed so that it says something false; None without such a place.

    For answers that are right, in scenarios with a standard answer.
    """
    places = [*_numbers(answer), *_words(answer, opposites)]
    if not places:
        return None
    start, end, text = chance.picked(places, "place", seed)
    return Pair(answer, answer[:start] + text + answer[end:], Made.CORRUPTED_FACT)


def _numbers(answer: str) -> list[tuple[int, int, str]]:
    """Numbers and others of the same length in their places; those of a list, a step or a figure say nothing."""
    taken = {match.start() + len(match[0]) - len(match[0].lstrip()) for match in _LIST_NUMBER.finditer(answer)}
    found = [
        match
        for match in _NUMBER.finditer(answer)
        if match.start() not in taken and not _COUNTED.search(answer, max(0, match.start() - 12), match.start())
    ]
    # A number that stands there twice would contradict itself, which is easier to see than a wrong one.
    texts = [match[0] for match in found]
    return [(match.start(), match.end(), _other(match[0])) for match in found if texts.count(match[0]) == 1]


def _other(number: str) -> str:
    """As many digits, another leading one, never a 0; of a year another decade, since a year far off is no fact that
    anybody would believe."""
    if _YEAR.fullmatch(number):
        return number[:2] + str((int(number[2]) + 1) % 10) + number[3]
    digit = int(number[0])
    return str(digit % 9 + 1) + number[1:] if digit else number[:-1] + str((int(number[-1]) + 3) % 9 + 1)


def _words(answer: str, opposites: Opposites) -> list[tuple[int, int, str]]:
    taken = [
        range(match.start(), match.end())
        for saying in opposites.sayings
        for match in re.finditer(rf"\b{re.escape(saying)}\b", answer, re.IGNORECASE)
    ]
    found = []
    for match in re.finditer(r"[A-Za-z]+", answer):
        opposite = opposites.words.get(match[0].lower())
        if opposite is None or any(match.start() in saying for saying in taken):
            continue
        if match[0] in (match[0].lower(), match[0].capitalize()):
            text = opposite.capitalize() if match[0][0].isupper() else opposite
            found.append((match.start(), match.end(), text))
    return found


# --------------------------------------------------------------------------------------------------- failing code

MAX_MUTANTS = 8


async def failing_code(
    answer: str, test: str, runner: CodeRunner, deadline: Deadline, seed: int, max_mutants: int = MAX_MUTANTS
) -> Pair | None:
    """The answer with its code changed in one place so that it fails the test which the code as it was passes; None
    where the code doesn't pass, or no change out of `max_mutants` fails. A change that runs for ever has failed.

    Raises CodeTooLate.
    """
    around = _code_place(answer)
    if around is None:
        return None
    start, end = around
    code = answer[start:end]
    if await runner.run(code, test, deadline) is not Outcome.PASSED:
        return None
    for _, mutant in zip(range(max_mutants), mutants(code, seed), strict=False):
        if await runner.run(mutant, test, deadline) is not Outcome.PASSED:
            return Pair(answer, answer[:start] + mutant + answer[end:], Made.FAILING_CODE)
    return None


def _code_place(answer: str) -> tuple[int, int] | None:
    """Where the only fenced block's code stands; an answer without fences is code as a whole."""
    if FENCE not in answer:
        return 0, len(answer)
    if answer.count(FENCE) != 2:
        return None
    start = answer.find("\n", answer.index(FENCE)) + 1
    end = answer.rindex(FENCE)
    return (start, end) if 0 < start < end else None


# ------------------------------------------------------------------------------------------------ matched lengths

MATCHED_SHARE = 0.1
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def matched(pair: Pair, fillers: Sequence[str], seed: int) -> Pair | None:
    """The pair with the worse answer brought to the better one's length, within a tenth: cut after a sentence where
    it is longer, padded with sentences that say nothing where it is shorter. Both leave it the worse one, and a judge
    learns nothing from length. None where no cut and no padding comes near enough, and for code, whose cutting
    would be another fault than the one that the pair is about."""
    wanted = len(pair.better)
    if pair.made is Made.INJECTED_SUFFIX:
        return _cut_before_suffix(pair, wanted, seed)
    if _near(len(pair.worse), wanted):
        return pair
    if pair.made is Made.FAILING_CODE or FENCE in pair.worse:
        return None
    if len(pair.worse) > wanted:
        cuts = [cut for cut in _cuts(pair.worse) if _near(len(cut), wanted)]
        return _changed(pair, chance.picked(cuts, "cut", seed) if cuts else None, LengthChange.SHORTENED)
    text = _padded(pair.worse, wanted, fillers, seed)
    return _changed(pair, text if _near(len(text), wanted) else None, LengthChange.PADDED)


def _changed(pair: Pair, text: str | None, change: LengthChange) -> Pair | None:
    return None if text is None else replace(pair, worse=text, change=change)


def _near(length: int, wanted: int) -> bool:
    return abs(length - wanted) <= MATCHED_SHARE * wanted


def _cuts(text: str) -> list[str]:
    found = [text[: match.start()] for match in _SENTENCE_END.finditer(text)]
    return [cut for cut in found if cut.strip()]


def _cut_before_suffix(pair: Pair, wanted: int, seed: int) -> Pair | None:
    """It is the answer before the suffix that is cut. Among all lengths that come near one is drawn, the whole answer
    included: with that alone, the worse one would always be the longer one."""
    suffix = pair.worse[len(pair.better) :]
    cuts = [] if FENCE in pair.better else _cuts(pair.better)
    near = [cut for cut in (*cuts, pair.better) if _near(len(cut) + len(suffix), wanted)]
    shorter = [cut for cut in near if len(cut) + len(suffix) <= wanted]
    longer = [cut for cut in near if len(cut) + len(suffix) > wanted]
    sides = [side for side in (shorter, longer) if side]
    if not sides:
        return None
    text = chance.picked(chance.picked(sides, "side", seed), "cut", seed)
    return pair if text == pair.better else _changed(pair, text + suffix, LengthChange.SHORTENED)


def _padded(text: str, wanted: int, fillers: Sequence[str], seed: int) -> str:
    """Fillers in a seeded order, each once, as long as they bring the length nearer."""
    for filler in chance.shuffled(fillers, "fillers", seed):
        longer = f"{text} {filler}"
        if abs(len(longer) - wanted) < abs(len(text) - wanted):
            text = longer
    return text
