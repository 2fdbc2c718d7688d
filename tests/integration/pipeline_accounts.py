"""What became of every input of a pipeline: an output of each stage or a dead letter, exactly once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import Message

from tests.integration.pipeline_world import Pipeline
from themis_pipeline.events import ids
from themis_pipeline.events.codec import decode
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.topics import INSTRUCTIONS, LABELLED, QUESTION_PLANS, QUIZ_PLANS, RESPONSE_SETS, STAGES
from themis_proto.v1 import events_pb2 as ev


def lost(pipeline: Pipeline, stage: str, kind: type[Message]) -> list[str]:
    """The ids of those that a stage gave up, read back from their letters' own bytes."""
    [topic, *_] = [topic for topic in STAGES[stage] if kind in topic.events]
    return [
        decode(_record(letter), [kind], topic.max_event_bytes).id  # type: ignore[attr-defined]
        for letter in pipeline.letters(stage)
    ]


def _record(letter: ev.DeadLetter) -> Record:
    headers = tuple((one.key, one.value) for one in letter.headers)
    return Record(Partition(letter.topic, letter.partition), letter.offset, letter.key, letter.value, headers)


def check(pipeline: Pipeline, expected_plans: Iterable[str], asked_at_a_time: int = 5) -> list[ev.Labelled]:
    """Each stage's inputs against its outputs and letters; gives the labels."""
    plans = [(plan, stage) for topic, stage in ((QUESTION_PLANS, "question"), (QUIZ_PLANS, "quiz"))
             for plan in pipeline.read(topic, ev.Plan)]  # fmt: skip
    once(plan.id for plan, _ in plans)
    assert {plan.id for plan, _ in plans} == set(expected_plans)

    instructions = pipeline.read(INSTRUCTIONS, ev.Instruction)
    given_up = [*lost(pipeline, "question", ev.Plan), *lost(pipeline, "quiz", ev.Plan)]
    wanted = [
        ids.derived(plan.id, "instruction", index)
        for plan, stage in plans
        if plan.id not in given_up
        for index in range(asked_at_a_time if stage == "question" else 1)
    ]
    assert sorted(one.id for one in instructions) == sorted(wanted)
    once([*{one.made_from for one in instructions}, *given_up])

    sets = pipeline.read(RESPONSE_SETS, ev.ResponseSet)
    made = [one.instruction.id for one in sets] + lost(pipeline, "respond", ev.Instruction)
    assert sorted(made) == sorted(one.id for one in instructions)

    labels = pipeline.read(LABELLED, ev.Labelled)
    once(label.id for label in labels)
    labelled = {label.instruction.id for label in labels}
    unlabelled = lost(pipeline, "label", ev.ResponseSet)
    once(unlabelled)
    assert labelled | {one.instruction.id for one in sets if one.id in unlabelled} == {
        one.instruction.id for one in sets
    }
    assert not labelled & {one.instruction.id for one in sets if one.id in unlabelled}
    return labels


def once(names: Iterable[str]) -> None:
    assert [name for name, count in Counter(names).items() if count > 1] == []


def journalled(folder: Path) -> set[str]:
    """The digests of the requests whose answers are in the journal."""
    return {json.loads(file.read_text())["digest"] for file in folder.glob("journal-*/*.json")}
