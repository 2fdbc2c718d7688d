"""The stages by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType

from themis_pipeline.running import making, routes
from themis_pipeline.running.composing import Surroundings
from themis_pipeline.running.kind import Kind
from themis_pipeline.running.parts import Need
from themis_pipeline.running.seam import Runs
from themis_pipeline.topics import (
    ANNOTATION_TASKS,
    CLASSIFIED_PROMPTS,
    INSTRUCTIONS,
    LABELLED,
    QUESTION_PLANS,
    QUIZ_PLANS,
    RESPONSE_SETS,
    SCORED,
    STAGES,
)

ALL = "all"
"""In place of all their names."""

_ASKS = frozenset({Need.LLM})
_WRITES = frozenset({Need.LLM, Need.GATES})
_JUDGED = frozenset({Need.SIDECAR})

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "classify": Kind(making.classify, (CLASSIFIED_PROMPTS,), _JUDGED),
        "gate": Kind(making.gate, (INSTRUCTIONS,), frozenset({Need.GATES})),
        "plan": Kind(making.plan, (QUESTION_PLANS, QUIZ_PLANS), routed=routes.plans),
        "question": Kind(making.question, (INSTRUCTIONS,), _WRITES),
        "quiz": Kind(making.quiz, (INSTRUCTIONS,), _WRITES),
        "respond": Kind(making.respond, (RESPONSE_SETS,), _ASKS),
        "label": Kind(making.label, (LABELLED, ANNOTATION_TASKS), frozenset({Need.LLM, Need.TEACHER})),
        "annotate": Kind(making.annotate, (LABELLED,), looks_at=(ANNOTATION_TASKS,)),
        "difficulty": Kind(making.difficulty, (SCORED,), _JUDGED),
    }
)


@contextmanager
def _archive(around: Surroundings) -> Iterator[Runs]:
    """Loads pyarrow, which no other stage takes, when it is wanted."""
    from themis_pipeline.running.archiving import archiving

    with archiving(around) as stage:
        yield stage


OWN: Mapping[str, Callable[[Surroundings], AbstractContextManager[Runs]]] = MappingProxyType({"archive": _archive})
"""Stages that read and write in a way of their own."""

NAMES: tuple[str, ...] = tuple(name for name in STAGES if name in KINDS or name in OWN)
"""All of them, in the table's order."""
