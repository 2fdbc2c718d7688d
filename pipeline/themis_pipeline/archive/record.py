"""One record of the archive in plain types: the fields are the columns of schema.py, which says what each means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as text: its parts joined by line ends. What isn't text is in the event alone."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    criterion: str
    kind: str
    text: str
    rating: int | None
    candidate: str


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    scenario: str
    mode: str
    labeller: str
    rating: int | None
    preference: str | None
    scale_min: int
    scale_max: int
    pair: str | None
    swapped: bool
    instruction: str
    instruction_origin: str
    made_from: str
    scenario_basis: str
    scenario_probability: float | None
    messages: tuple[Turn, ...]
    candidates: tuple[str, ...]
    responses: tuple[str, ...]
    response_generators: tuple[str, ...]
    response_lineages: tuple[str, ...]
    response_methods: tuple[str, ...]
    response_made_from: tuple[str, ...]
    response_length_changes: tuple[str, ...]
    reference: str | None
    language: str | None
    prompt: str
    critique: str
    points: tuple[Point, ...]
    known: str | None
    annotators: int
    agreement: float | None
    source: str
    source_id: str | None
    licence: str | None
    generator: str | None
    generator_lineage: str | None
    teacher: str | None
    teacher_lineage: str | None
    judge_lineage: str | None
    classifier_version: str | None
    template_digest: str | None
    scorer: str | None
    log_perplexity_ratio: float | None
    mean_loss_ratio: float | None
    loss_with_prompt: float | None
    loss_alone: float | None
    scored_tokens: int | None
    at: datetime
    topic: str
    partition: int
    offset: int
    event: bytes
