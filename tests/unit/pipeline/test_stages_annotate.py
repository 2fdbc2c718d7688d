"""Annotation: what people get, what they give back, and what becomes of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.unit.pipeline.stages_parts import Drops, context, instruction
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import sheets
from themis_pipeline.stages.annotate import Annotate
from themis_pipeline.stages.convert import text_message
from themis_pipeline.stages.errors import BadData
from themis_pipeline.stages.seam import Context
from themis_pipeline.stages.tasks import COMPARE, RATE
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb


def task(id: str, *answers: str, **fields: Any) -> ev.AnnotationTask:
    pairwise = len(answers) > 1
    told = [ev.Candidate(id=a, response=pb.Response(messages=[text_message("assistant", a)])) for a in answers]
    return ev.AnnotationTask(
        id=id,
        instruction=instruction(reference="Stone."),
        reference=None if pairwise else "Wood.",
        candidates=told,
        mode=ev.LABEL_MODE_PAIRWISE if pairwise else ev.LABEL_MODE_REFERENCE,
        criteria=[pb.Criterion(id="c", name="Right", text="It is right.")],
        guidance=COMPARE if pairwise else RATE,
        **fields,
    )


TASKS = [task("one", '=HYPERLINK("x"), and\na second line'), task("two", "First.", "Second.")]
BY_ID = {one.id: one for one in TASKS}


def said(task: str, annotator: str, what: int | str | None, **fields: Any) -> ev.AnnotationLabel:
    label = ev.AnnotationLabel(task=task, annotator=annotator, **fields)
    if what is None:
        label.skipped = True
    elif isinstance(what, int):
        label.rating = what
    else:
        label.preference = pb.Preference.Value(f"PREFERENCE_{what}")
    return label


# -------------------------------------------------------------------------------------------------------- sheets


def test_people_get_everything_that_they_need_in_both_forms() -> None:
    lines, sheet = io.StringIO(), io.StringIO(newline="")
    sheets.write_jsonl(TASKS, lines)
    sheets.write_csv(TASKS, sheet)
    one, two = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert one["conversation"] == "user: What floats on water?"
    assert (one["reference"], two["reference"]) == ("Wood.", "")
    assert (one["guidance"], two["guidance"]) == (RATE, COMPARE)
    assert (two["response_a"], two["response_b"]) == ("First.", "Second.")
    assert one["criteria"] == "1. Right: It is right."
    sheet.seek(0)
    rows = list(csv.DictReader(sheet))
    assert rows[1] == two
    assert rows[0]["response_a"] == "'" + one["response_a"]


def test_labels_come_back_in_both_forms() -> None:
    rows = [("one", "ann", "4"), ("one", "bob", ""), ("two", "ann", "Tie"), ("two", "bob", "b"), ("two", "", "")]
    expected = [said("one", "ann", 4), said("one", "bob", None), said("two", "ann", "TIE"), said("two", "bob", "B")]
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows([("task", "annotator", "label"), *rows])
    sheet.seek(0)
    assert sheets.read_csv(sheet, BY_ID) == expected
    lines = "".join(json.dumps({"task": t, "annotator": a, "label": label}) + "\n" for t, a, label in rows)
    lines = lines.replace('"4"', "4").replace('""', "null")
    assert sheets.read_jsonl(io.StringIO(lines), BY_ID) == expected


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"task": "three", "annotator": "ann", "label": "4"}', "line 1: task"),
        ('{"task": "one", "label": "4"}', "line 1: annotator"),
        ('{"task": "one", "annotator": "ann", "label": "6"}', "line 1: rating"),
        ('{"task": "one", "annotator": "ann", "label": "A"}', "line 1: rating"),
        ('{"task": "one", "annotator": "ann", "label": "good"}', "line 1: label"),
        ('{"task": "one", "annotator": "ann", "label": true}', "line 1: label"),
        ('{"task": "one", "annotator": "ann", "label": 4.0}', "line 1: label"),
        ('{"task": "two", "annotator": "ann", "label": "4"}', "line 1: preference"),
        ("4", "line 1: no JSON object"),
        ("{", "line 1: no JSON"),
        ('{"task": "one", "annotator": "ann", "label": "4"}\n' * 2, "line 2: a second label"),
    ],
)
def test_a_label_that_makes_no_sense_is_named(line: str, named: str) -> None:
    with pytest.raises(BadData, match=named):
        sheets.read_jsonl(io.StringIO(line), BY_ID)


def test_a_sheet_with_other_separators_or_a_huge_cell_says_so() -> None:
    with pytest.raises(BadData, match=r"no columns task, annotator, label.*commas"):
        sheets.read_csv(io.StringIO("task;annotator;label\none;ann;4\n"), BY_ID)
    limit = csv.field_size_limit()
    long = f"task,annotator,label,response_a\none,ann,4,{'x' * 300_000}\n"
    assert sheets.read_csv(io.StringIO(long), BY_ID) == [said("one", "ann", 4)]
    assert csv.field_size_limit() == limit


# --------------------------------------------------------------------------------------------------------- stage


def for_it(**fields: Any) -> ev.LabelPoint:
    return ev.LabelPoint(kind=ev.POINT_KIND_STRENGTH, **fields)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """One partition's labels, and tasks, as they stand."""

    labels: Sequence[ev.AnnotationLabel]

    async def task(self, id: str) -> ev.AnnotationTask | None:
        return BY_ID.get(id)

    async def before(self, task: str, context: Context) -> Sequence[ev.AnnotationLabel]:
        return [one for one in self.labels[: context.offset] if one.task == task]


async def handled(labels: Sequence[ev.AnnotationLabel], drops: Drops | None = None) -> list[list[ev.Labelled] | str]:
    """What comes of each; the code where it is rejected."""
    stage = Annotate(LaidOut(labels), "judge-family", drops or Drops())
    return [await one(stage, label, offset) for offset, label in enumerate(labels)]


async def one(stage: Annotate, label: ev.AnnotationLabel, offset: int) -> list[ev.Labelled] | str:
    try:
        return list(await stage.handle(label, replace(context(), offset=offset)))
    except Reject as refused:
        return refused.code


def these(made: list[ev.Labelled] | str) -> list[ev.Labelled]:
    assert not isinstance(made, str)
    return made


async def test_the_label_that_makes_them_enough_makes_one_of_all() -> None:
    point = ev.LabelPoint(criterion="c", kind=ev.POINT_KIND_STRENGTH, text="Right.", rating=5)
    drops = Drops()
    made = await handled(
        [
            said("one", "ann", 4, points=[point]),
            said("two", "ann", "B"),
            said("one", "bob", 1),
            said("one", "cy", 4),
            said("one", "dora", 1),
        ],
        drops,
    )
    assert [len(one) for one in made] == [0, 0, 0, 1, 0]
    [rated] = these(made[3])
    assert (rated.rating, rated.annotators, rated.labeller) == (4, 3, ev.LABELLER_PEOPLE)
    assert rated.agreement == pytest.approx(2 / 3)
    assert rated.provenance.judge_lineage == "judge-family"
    assert list(rated.points) == [point]
    assert drops.counts == {("annotate", "late"): 1}


async def test_a_pair_gets_its_label_in_both_orders() -> None:
    made = await handled([said("two", person, what) for person, what in (("a", "B"), ("b", "A"), ("c", "B"))])
    first, second = these(made[2])
    assert [one.id for one in first.candidates] == [one.id for one in second.candidates][::-1]
    assert (first.preference, second.preference) == (pb.PREFERENCE_B, pb.PREFERENCE_A)
    assert (first.swapped, second.swapped) == (False, True)
    assert first.pair == second.pair == "two"
    assert first.id != second.id
    assert not first.HasField("rating")


async def test_people_may_think_again_or_pass_and_only_what_fits_counts() -> None:
    labels = [
        said("one", "ann", 1),
        said("one", "bob", None),
        said("one", "ann", 5),
        said("one", "cy", 7),
        said("one", "", 4),
        said("three", "ann", 4),
        said("one", "dora", 3),
        said("one", "bob", 5),
    ]
    made = await handled(labels)
    assert made[:7] == [[], [], [], "rating", "annotator", "task", []]
    [rated] = these(made[7])
    assert rated.rating == 5


async def test_whoever_handles_a_label_again_comes_to_the_same() -> None:
    labels = [said("one", f"p{n}", 1 + n % 5) for n in range(6)]
    assert await handled(labels) == await handled(labels)
    assert [len(one) for one in await handled(labels)] == [0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("label", "code"),
    [
        (said("two", "ann", 3), "preference"),
        (said("one", "ann", "A"), "rating"),
        (said("one", "ann", None, rating=4), "skipped"),
        (ev.AnnotationLabel(task="two", annotator="ann"), "preference"),
        (said("one", "ann", 4, points=[for_it(text=" ")]), "points"),
        (said("one", "ann", 4, points=[ev.LabelPoint(text="x")]), "points"),
        (said("one", "ann", 4, points=[for_it(text="x", criterion="d")]), "points"),
        (said("one", "ann", 4, points=[for_it(text="x", rating=6)]), "points"),
        (said("two", "ann", "A", points=[for_it(text="x")]), "points"),
        (
            said("one", "ann", 4, points=[for_it(text="x", candidate="First.")]),
            "points",
        ),
    ],
)
async def test_what_the_task_can_not_take_is_rejected(label: ev.AnnotationLabel, code: str) -> None:
    assert await handled([label]) == [code]
