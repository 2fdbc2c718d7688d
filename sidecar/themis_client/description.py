"""What a server judges with."""

from __future__ import annotations

from dataclasses import dataclass

from themis_client.content import Criterion


@dataclass(frozen=True, slots=True)
class Version:
    """A judge version: immutable, and never reused under the same id."""

    id: str
    base_model: str
    engine: str
    weights_digest: str
    template_digest: str
    data_order: str
    verdict_order: str
    label_mass_threshold: float
    context_tokens: int
    dtype: str
    reference_scenarios: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario and its criteria in descending order of importance."""

    id: str
    name: str
    definition: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may hold. 0 is "not said"."""

    max_items: int = 0
    max_message_bytes: int = 0
    max_item_bytes: int = 0
    stream_window: int = 0
    max_queue_tokens: int = 0
    max_deadline_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Description:
    """`current` is the id of the version that new runs get; `versions` are all resident ones."""

    current: str
    versions: tuple[Version, ...]
    scenarios: tuple[Scenario, ...]
    limits: Limits
    software_version: str
