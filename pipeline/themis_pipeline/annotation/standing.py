"""How far people are: which tasks have enough labels, and how far those agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from themis_pipeline.annotation.reading import Labels, PlacedLabel
from themis_pipeline.stages import agreement
from themis_pipeline.stages.votes import Votes, counted, needed, numbers
from themis_proto.v1 import events_pb2 as ev


@dataclass(slots=True)
class Standing:
    """labels of all tasks; tasks are added one by one. apart: tasks with labels on more than one partition."""

    labels: Labels
    done: int = 0
    waiting: int = 0
    apart: int = 0
    ratings: dict[str, dict[str, float]] = field(default_factory=dict)
    choices: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, task: ev.AnnotationTask) -> Votes:
        """A task that was added before changes nothing."""
        placed = self.labels.by_task.get(task.id, ())
        votes = votes_of(task, placed)
        of_mode = self.choices if task.mode == ev.LABEL_MODE_PAIRWISE else self.ratings
        if task.id not in self.ratings and task.id not in self.choices:
            of_mode[task.id] = dict(numbers(votes))
            self.done += votes.enough
            self.waiting += not votes.enough
            self.apart += len({one.partition for one in placed}) > 1
        return votes

    def lines(self) -> list[str]:
        found = [f"{self.done + self.waiting} tasks: {self.done} with enough labels, {self.waiting} waiting"]
        if self.apart:
            found.append(
                f"{self.apart} tasks have labels on several partitions, which are never counted together: "
                "key labels by the task's id"
            )
        found += _told("ratings", agreement.report(self.ratings))
        found += _told("choices", agreement.report(self.choices, agreement.nominal))
        return found


def votes_of(task: ev.AnnotationTask, placed: Sequence[PlacedLabel]) -> Votes:
    """As the stage counts them: those of one partition, and of several the one with most."""
    by_partition: dict[int, list[ev.AnnotationLabel]] = defaultdict(list)
    for one in placed:
        by_partition[one.partition].append(one.label)
    found = [counted(task, labels) for _, labels in sorted(by_partition.items())]
    return max(found, key=lambda votes: min(len(votes.said), needed(task)), default=Votes(task))


def _told(what: str, report: agreement.Report) -> list[str]:
    alpha = "not defined" if report.alpha is None else f"{report.alpha:.3f}"
    found = [f"{what}: {report.labels} labels of {report.items} tasks, Krippendorff's alpha {alpha}"]
    for (first, second), kappa in report.kappas.items():
        if kappa is not None:
            found.append(f"{what}: {first} and {second}, Cohen's kappa {kappa:.3f}")
    return found
