"""Scored events and records that tests of the archive and of selection write and read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from themis_pipeline.archive import Place, Record, from_scored
from themis_proto.v1 import events_pb2 as events
from themis_proto.v1 import judge_pb2 as judge

TOPIC = "themis.scored"
DAY = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def model(name: str, lineage: str) -> events.ModelRef:
    return events.ModelRef(name=name, endpoint="local", lineage=lineage)


def scored(id: str, scenario: str = "math", rating: int = 4) -> events.Scored:
    """A teacher's label of one response."""
    provenance = events.Provenance(
        source="quiz", generator=model("writer-1", "writers"), teacher=model("teacher-1", "teachers"),
        judge_lineage="judges", template_digest="t1",
    )  # fmt: skip
    instruction = events.Instruction(
        id=f"i-{id}", made_from=f"plan-{id}", scenario=scenario, language="en", reference="4", provenance=provenance,
        origin=events.INSTRUCTION_ORIGIN_QUIZ, scenario_basis=events.SCENARIO_BASIS_CONSTRUCTED,
    )  # fmt: skip
    instruction.messages.add(role="user").parts.add(text=f"What is 2 + 2, asked the {id}th time?")
    label = events.Labelled(
        id=id, instruction=instruction, mode=events.LABEL_MODE_REFERENCE, labeller=events.LABELLER_TEACHER,
        rating=rating, critique="Right.", prompt="Judge this.", provenance=provenance,
    )  # fmt: skip
    response = judge.Response(messages=[judge.Message(role="assistant", parts=[judge.Part(text=f"It is {id}.")])])
    method = events.RESPONSE_METHOD_ANSWERED
    label.candidates.add(id=f"c-{id}", response=response, generator=model("policy-1", "policies"), method=method)
    label.points.add(criterion="accuracy", kind=events.POINT_KIND_STRENGTH, text="The sum is right.", rating=5)
    label.at.FromDatetime(DAY)
    found = events.Scored(id=id, labelled=label)
    found.difficulty.CopyFrom(
        events.RecordDifficulty(
            scorer="s1", log_perplexity_ratio=-0.5, mean_loss_ratio=0.8, loss_with_prompt=2.0, loss_alone=2.5, tokens=9
        )
    )
    return found


def record(offset: int, scenario: str = "math", day: int = 0, partition: int = 0) -> Record:
    found = from_scored(scored(f"r{partition}-{offset}", scenario), Place(TOPIC, partition, offset))
    return replace(found, at=DAY + timedelta(days=day))
