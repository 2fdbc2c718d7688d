"""Whether an event can be archived: what is wrong with one stays wrong, and must not stop what comes behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import quote

from themis_proto.v1 import events_pb2 as events
from themis_proto.v1 import judge_pb2 as judge

PREFERENCES: Mapping[int, str] = MappingProxyType(
    {judge.PREFERENCE_A: "a", judge.PREFERENCE_B: "b", judge.PREFERENCE_TIE: "tie"}
)
SCENARIO_BYTES = 200
"""Of a scenario's id as a folder is named by it: file systems take 255 for a name."""
_SECONDS = range(-62_135_596_800, 253_402_300_800)  # the years 1 to 9999


def problems(scored: events.Scored) -> Iterator[str]:
    """What keeps it from being archived, without words of the record; nothing where it can be."""
    label = scored.labelled
    if not scored.id or not label.instruction.id:
        yield "lacks an id, or its instruction's"
    if not 0 < len(quote(label.instruction.scenario, safe="")) <= SCENARIO_BYTES:
        yield "its scenario's id is missing, or too long"
    if not label.HasField("at") or label.at.seconds not in _SECONDS or not 0 <= label.at.nanos < 10**9:
        yield "lacks the time at which its input came in, or that is none"
    yield from _rating(label)
    yield from _origin(label)
    if scored.HasField("difficulty"):
        yield from _difficulty(scored.difficulty)


def _rating(label: events.Labelled) -> Iterator[str]:
    low = label.scale_min if label.HasField("scale_min") else 1
    high = label.scale_max if label.HasField("scale_max") else 5
    rated, preferred = label.HasField("rating"), label.preference in PREFERENCES
    if rated == preferred or preferred != bool(label.pair):
        yield "has either a rating, or a preference and a pair"
    elif len(label.candidates) != (2 if preferred else 1):
        yield f"has {len(label.candidates)} candidates: a rating is of one, a preference between two"
    if rated and not low <= label.rating <= high:
        yield "its rating lies outside its scale"


def _origin(label: events.Labelled) -> Iterator[str]:
    origin = label.provenance
    if not origin.source:
        yield "lacks the source that caps are counted by"
    if label.labeller == events.LABELLER_TEACHER and not origin.teacher.name:
        yield "a teacher labelled it, and it doesn't say which"
    named = [origin.generator, origin.teacher, *(one.generator for one in label.candidates)]
    if any(one.name and not one.lineage for one in named):
        yield "names a model without its lineage"


def _difficulty(found: events.RecordDifficulty) -> Iterator[str]:
    numbers = (found.log_perplexity_ratio, found.mean_loss_ratio, found.loss_with_prompt, found.loss_alone)
    if not found.scorer or found.tokens < 1 or not all(map(math.isfinite, numbers)):
        yield "its difficulty lacks the scorer or the tokens, or is no number"
