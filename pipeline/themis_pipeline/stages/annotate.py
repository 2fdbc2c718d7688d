"""People's labels in, one label for each task out, as soon as there are enough: what most of them say, else the
rounded mean, or a tie.

A task and its labels come as events of their own, and this stage keeps nothing of them: what came before a label is
read from the topics again. A label makes the difference if those before it on its partition were not enough, and those
with it are. So all labels of a task stand on one partition (they are keyed by the task's id), whoever handles one later
sees the same ones before it, and comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from themis_pipeline.events import ids
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import agreement
from themis_pipeline.stages.label import CHOICES
from themis_pipeline.stages.seam import Context, Dropped
from themis_pipeline.stages.votes import BadLabel, Votes, counted
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

_TURNED = {pb.PREFERENCE_A: pb.PREFERENCE_B, pb.PREFERENCE_B: pb.PREFERENCE_A}
_NAMES = {value: name for name, value in CHOICES.items()}


class Shelf(Protocol):
    """Tasks and labels, as they stand on their topics. Both raise Retry where they can't be read now."""

    async def task(self, id: str) -> ev.AnnotationTask | None: ...

    async def before(self, task: str, context: Context) -> Sequence[ev.AnnotationLabel]:
        """The task's labels that stand before this place on its partition, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Annotate:
    """judge_lineage: of the judge that is to learn from the labels."""

    shelf: Shelf
    judge_lineage: str
    dropped: Dropped
    stage: str = "annotate"

    async def handle(self, event: ev.AnnotationLabel, context: Context) -> Sequence[ev.Labelled]:
        before = await self.shelf.before(event.task, context)
        task = await self.shelf.task(event.task)
        if task is None:
            raise Reject("task", "there is no such task, or none any more")
        votes = counted(task, before)
        try:
            counts = votes.take(event)
        except BadLabel as error:
            raise Reject(error.field, error.why) from error
        if not counts:
            self.dropped(self.stage, "late")
        return labels(votes, self.judge_lineage) if counts and votes.enough else []


def labels(votes: Votes, judge_lineage: str) -> list[ev.Labelled]:
    """What the votes say: one label, of two responses one in each order."""
    task, said = votes.task, list(votes.said.values())
    label = ev.Labelled(
        id=ids.derived(task.id, "annotate"),
        instruction=task.instruction,
        candidates=task.candidates,
        mode=task.mode,
        labeller=ev.LABELLER_PEOPLE,
        points=[point for one in said for point in one.points],
        annotators=len(said),
        provenance=task.instruction.provenance,
        at=task.instruction.at,
    )
    label.provenance.judge_lineage = judge_lineage
    if task.mode != ev.LABEL_MODE_PAIRWISE:
        agreed = agreement.agreed_rating([one.rating for one in said])
        label.rating, label.agreement = agreed.value, agreed.share
        return [label]
    choice, label.agreement = agreement.agreed_choice([_NAMES[one.preference] for one in said])
    label.preference, label.pair = CHOICES[choice], task.id
    return [label, _turned(label)]


def _turned(label: ev.Labelled) -> ev.Labelled:
    """In the other order."""
    other = ev.Labelled()
    other.CopyFrom(label)
    other.id, other.swapped = ids.derived(label.pair, "annotate", 1), True
    other.preference = _TURNED.get(label.preference, label.preference)
    del other.candidates[:]
    other.candidates.extend(reversed(label.candidates))
    return other
