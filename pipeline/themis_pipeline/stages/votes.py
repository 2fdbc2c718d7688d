"""People's labels of one task: which of them count, and when there are enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from themis_pipeline.stages.errors import StageError
from themis_proto.v1 import events_pb2 as ev
from themis_proto.v1 import judge_pb2 as pb

NEEDED_LABELS = 3
RATINGS = range(1, 6)
CHOICES = (pb.PREFERENCE_A, pb.PREFERENCE_B, pb.PREFERENCE_TIE)


class BadLabel(StageError):
    """A label that its task can't take. `field` says where; no text of the label's is in it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


def needed(task: ev.AnnotationTask) -> int:
    return task.annotators or NEEDED_LABELS


def check(label: ev.AnnotationLabel, task: ev.AnnotationTask) -> None:
    """Raises BadLabel."""
    if not label.annotator:
        raise BadLabel("annotator", "missing")
    rated, chosen = label.HasField("rating"), label.preference != pb.PREFERENCE_UNSPECIFIED
    if label.skipped:
        if rated or chosen:
            raise BadLabel("skipped", "it is labelled all the same")
    elif task.mode == ev.LABEL_MODE_PAIRWISE:
        if rated or label.preference not in CHOICES:
            raise BadLabel("preference", "A, B or a tie is expected, and no rating")
    elif chosen or not rated or label.rating not in RATINGS:
        raise BadLabel("rating", f"{RATINGS[0]} to {RATINGS[-1]} is expected, and no preference")
    for point in label.points:
        _check_point(point, task)


def _check_point(point: ev.LabelPoint, task: ev.AnnotationTask) -> None:
    if not point.text.strip() or point.kind not in (ev.POINT_KIND_STRENGTH, ev.POINT_KIND_SHORTCOMING):
        raise BadLabel("points", "a text, and whether it speaks for or against, are expected")
    if point.criterion and point.criterion not in {criterion.id for criterion in task.criteria}:
        raise BadLabel("points", "a criterion is none of the task's")
    if point.HasField("rating") and point.rating not in RATINGS:
        raise BadLabel("points", f"a rating is not within {RATINGS[0]} and {RATINGS[-1]}")
    shown = {candidate.id for candidate in task.candidates}
    if point.candidate not in shown and (point.candidate or len(shown) > 1):
        raise BadLabel("points", "the candidate that one is about is none of the task's")


@dataclass(slots=True)
class Votes:
    """The labels of one task, in the order in which they came. A person's later label takes the place of an earlier
    one, until there are enough: from then on nothing changes."""

    task: ev.AnnotationTask
    said: dict[str, ev.AnnotationLabel] = field(default_factory=dict)
    """By annotator; skips are none."""

    @property
    def enough(self) -> bool:
        return len(self.said) >= needed(self.task)

    def fits(self, label: ev.AnnotationLabel) -> bool:
        try:
            check(label, self.task)
        except BadLabel:
            return False
        return True

    def take(self, label: ev.AnnotationLabel) -> bool:
        """Whether it counts: not if it comes too late. Raises BadLabel."""
        check(label, self.task)
        if self.enough:
            return False
        self.said.pop(label.annotator, None)
        if not label.skipped:
            self.said[label.annotator] = label
        return True


def counted(task: ev.AnnotationTask, labels: Iterable[ev.AnnotationLabel]) -> Votes:
    """Of all that came; what the task can't take is passed over, since it is told of where it is handled."""
    votes = Votes(task)
    for label in filter(votes.fits, labels):
        votes.take(label)
    return votes


def number(label: ev.AnnotationLabel) -> float:
    return float(label.rating if label.HasField("rating") else label.preference)


def numbers(votes: Votes) -> Mapping[str, float]:
    """By annotator: ratings, or choices by their numbers in the contract."""
    return {person: number(label) for person, label in votes.said.items()}
