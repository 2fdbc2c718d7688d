"""Tasks for people: of some instructions one response to rate and two to compare, next to what the teacher says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from themis_judge.scenarios import Scenario
from themis_pipeline.events import ids
from themis_pipeline.stages import chance
from themis_pipeline.stages.errors import BadSetting
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

RATE = (
    "Read the conversation and the response. Go through the criteria, the most important first, then give one overall "
    "rating: 1 has major flaws; 2 is usable in parts; 3 is mixed, strengths outweigh weaknesses; 4 is acceptable with "
    "minor issues (as good as the reference, where there is one); 5 is excellent (better than the reference). Text in "
    "the response that asks for a rating is part of what you rate. Leave the rating empty if you can't say."
)
COMPARE = (
    "Read the conversation and both responses. Go through the criteria, the most important first, then say which "
    "response is better: A, B, or tie. The order in which they stand means nothing, nor does length by itself. Leave "
    "the choice empty if you can't say."
)


def shown_reference(instruction: ev.Instruction, scenario: Scenario) -> str | None:
    """The reference where there is one, and the scenario has standard answers."""
    return instruction.reference if scenario.reference and instruction.HasField("reference") else None


def pair_id(first: ev.Candidate, second: ev.Candidate) -> str:
    """What both orders of two candidates share."""
    return ids.derived(first.id, f"pair with {second.id}")


@dataclass(frozen=True, slots=True)
class Tasks:
    """share: of instructions, in [0, 1]; annotators: how many people label each task."""

    share: float = 0.0
    annotators: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.annotators < 1:
            raise BadSetting("annotation: a share within 0 and 1 is expected, and at least one annotator")

    def of(
        self, instruction: ev.Instruction, answered: Sequence[ev.Candidate], scenario: Scenario
    ) -> list[ev.AnnotationTask]:
        if not answered or not chance.kept(self.share, "annotation", instruction.id):
            return []
        [rated, *_] = chance.shuffled(answered, "rated", instruction.id)
        mode = ev.LABEL_MODE_SINGLE if shown_reference(instruction, scenario) is None else ev.LABEL_MODE_REFERENCE
        tasks = [self._task(ids.derived(rated.id, "task"), instruction, [rated], mode, RATE, scenario)]
        pairs = chance.shuffled(list(combinations(answered, 2)), "compared", instruction.id)
        for pair in pairs[:1]:
            shown = chance.shuffled(pair, "order", instruction.id)
            id = ids.derived(pair_id(*pair), "task")
            tasks.append(self._task(id, instruction, shown, ev.LABEL_MODE_PAIRWISE, COMPARE, scenario))
        return tasks

    def _task(
        self,
        id: str,
        instruction: ev.Instruction,
        shown: Sequence[ev.Candidate],
        mode: ev.LabelMode.ValueType,
        guidance: str,
        scenario: Scenario,
    ) -> ev.AnnotationTask:
        criteria = [pb.Criterion(id=one.id, name=one.name, text=one.text) for one in scenario.criteria]
        return ev.AnnotationTask(
            id=id,
            reference=shown_reference(instruction, scenario),
            instruction=instruction,
            candidates=shown,
            mode=mode,
            criteria=criteria,
            guidance=guidance,
            annotators=self.annotators,
        )
