"""The teacher's evaluations: the judge's own prompts with a note for the teacher, and the strict reading of answers.

What is kept is text in the judge's own format; the numbers of criteria that the teacher was asked for are taken out
of it and become the points' criterion ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from themis_judge import prompts
from themis_judge.items import Message, Point, Response, Rubric
from themis_judge.scenarios import Scenario
from themis_judge.verdict import parse_critique
from themis_pipeline.stages.errors import Unparsable

NOTE = (
    "\nFor this evaluation: write one to {points} points in each of both lists, even where there is little to say; at "
    "most {chars} characters a point, without square brackets or braces in its text. Between a point's text and its "
    "rating stands the number of its criterion from the list of criteria in braces, or {{0}} for a criterion that you "
    "added. A point reads like this:\n- The text of the point. {{1}} [[{low}]]\n"
)
TIE = "C"


@dataclass(frozen=True, slots=True)
class Form:
    """How the judge that is to learn from it writes: the limits of its critiques and the order of its verdict."""

    max_points: int = 3
    max_point_chars: int = 240
    reason_first: bool = False
    paper_order: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt for the teacher, and what its answer is read by. own: the judge's own prompt, without the note."""

    prompt: str
    own: str
    rubric: Rubric
    form: Form


@dataclass(frozen=True, slots=True)
class KeyedPoint:
    """criterion: an id of the rubric, empty for one that the teacher added."""

    text: str
    rating: int
    criterion: str
    strength: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """text: the evaluation in the judge's own format."""

    rating: int
    points: tuple[KeyedPoint, ...]
    text: str


def single(
    scenario: Scenario, messages: tuple[Message, ...], response: Response, reference: str | None, form: Form
) -> Asked:
    """The prompt for one response; with `reference` the guided one."""
    task = _task(scenario, form, reference is not None)
    own = prompts.single(task, messages, response, reference).text()
    note = NOTE.format(points=form.max_points, chars=form.max_point_chars, low=task.rubric.scale_min)
    return Asked(own + note, own, task.rubric, form)


def pair(
    scenario: Scenario,
    messages: tuple[Message, ...],
    first: Response,
    second: Response,
    reference: str | None,
    form: Form,
) -> Asked:
    """The prompt for two responses in the order given; its answer is one line, and needs no note."""
    task = _task(scenario, form, reference is not None)
    own = prompts.pair(task, messages, first, second, reference).text()
    return Asked(own, own, task.rubric, form)


def _task(scenario: Scenario, form: Form, with_reference: bool) -> prompts.Task:
    return prompts.Task(
        name=scenario.name,
        definition=scenario.definition,
        rubric=Rubric(scenario.criteria),
        custom=False,
        paper_order=form.paper_order,
        reason_first=form.reason_first,
        with_reference=with_reference,
    )


# ------------------------------------------------------------------------------------------------ reading answers

_POINT = re.compile(r"^- (?P<text>[^\[\]{}\n]+?) ?\{(?P<criterion>\d{1,3})\} ?\[\[(?P<rating>\d{1,3})\]\]$")
_PREFERENCE = re.compile(r"^Better response: \[\[(?P<choice>[ABC])\]\]$")


def read_single(answer: str, asked: Asked) -> Evaluation:
    """Raises Unparsable: rating, rating_off_scale, point, criterion, too_many_points, point_too_long, critique."""
    rubric = asked.rubric
    start = prompts.rating_start(rubric)
    lines = [line.strip() for line in answer.strip().split("\n") if line.strip()]
    overall = lines.pop(-1 if asked.form.reason_first else 0) if lines else ""
    match = re.fullmatch(re.escape(start) + r"(?P<rating>\d{1,3})\]\]", overall)
    if match is None:
        raise Unparsable("rating")
    rating = int(match["rating"])
    if not rubric.scale_min <= rating <= rubric.scale_max:
        raise Unparsable("rating_off_scale")
    criteria, plain = _unkeyed(lines, rubric)
    critique = parse_critique(plain, range(rubric.scale_min, rubric.scale_max + 1))
    if critique is None:
        raise Unparsable("critique")
    _check_limits([critique.strengths, critique.shortcomings], asked.form)
    told = [(point, True) for point in critique.strengths] + [(point, False) for point in critique.shortcomings]
    points = tuple(
        KeyedPoint(point.text, point.rating, criterion, strength)
        for (point, strength), criterion in zip(told, criteria, strict=True)
    )
    parts = [plain, f"{overall}\n"] if asked.form.reason_first else [f"{overall}\n", plain]
    return Evaluation(rating, points, "".join(parts))


def _unkeyed(lines: Sequence[str], rubric: Rubric) -> tuple[list[str], str]:
    """The points' criterion ids, and the critique without their numbers, in the judge's format."""
    headings = ("strengths:", "shortcomings:")
    if [line.lower() for line in lines if line.lower() in headings] != list(headings):
        raise Unparsable("critique")
    criteria, plain = [], []
    for line in lines:
        if line.lower() in headings:
            plain.append(line.capitalize())
            continue
        match = _POINT.match(line)
        if match is None:
            raise Unparsable("point")
        number = int(match["criterion"])
        if number > len(rubric.criteria):
            raise Unparsable("criterion")
        criteria.append(rubric.criteria[number - 1].id if number else "")
        plain.append(f"- {match['text']} [[{int(match['rating'])}]]")
    return criteria, "".join(f"{line}\n" for line in plain)


def _check_limits(lists: Sequence[Sequence[Point]], form: Form) -> None:
    if any(len(points) > form.max_points for points in lists):
        raise Unparsable("too_many_points")
    if any(len(point.text) > form.max_point_chars for points in lists for point in points):
        raise Unparsable("point_too_long")


def read_pair(answer: str) -> str:
    """ "A", "B" or "tie", as the responses stood in the prompt. Raises Unparsable: preference."""
    match = _PREFERENCE.match(answer.strip())
    if match is None:
        raise Unparsable("preference")
    return "tie" if match["choice"] == TIE else match["choice"]


def turned(choice: str) -> str:
    """A choice as it reads with both responses in the other order."""
    return {"A": "B", "B": "A"}.get(choice, choice)
