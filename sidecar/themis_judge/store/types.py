"""What a store holds, in plain types. Times are RFC 3339 in UTC; paths use `/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from themis_judge.items import Item
from themis_judge.version import JudgeSettings

FORMAT = 1
Kind = Literal["full", "lora"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """path: from the version's folder on, `judge/model.safetensors`; sha256: hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class HealthPrompt:
    """An item that a version has to rate before it serves, and where its expected rating must lie, ends included.
    None: no bound on that side; it must be rated all the same."""

    item: Item
    min_rating: float | None = None
    max_rating: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """An immutable version; its id follows from everything else in here.

    base_model: the model, or the id of the version, whose weights these are or (kind lora) are adapted;
    weights_digest: as engines report it, hex SHA-256 over the safetensors of `judge/` in the order of their names;
    template_digest: software that gives another one must not load the version."""

    format: int
    id: str
    name: str
    created_at: str
    parent: str | None
    base_model: str
    kind: Kind
    settings: JudgeSettings
    weights_digest: str
    template_digest: str
    health_prompts: tuple[HealthPrompt, ...]
    calibration: Mapping[str, Any]
    gate_report: Mapping[str, Any]
    files: tuple[FileEntry, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is published. weights: a folder with a model or an adapter; scenarios: a folder with *.yaml files that the
    version uses in place of the built-in ones, None for those; name: what the id starts with."""

    name: str
    weights: Path
    base_model: str
    kind: Kind = "full"
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    scenarios: Path | None = None
    health_prompts: tuple[HealthPrompt, ...] = ()
    parent: str | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)
    gate_report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BrokenVersion:
    """A version that is listed and can't be read; problem: what is wrong with it."""

    id: str
    problem: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """share: of live items that the version scores without answering, in (0, 1]."""

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the fleet should serve. resident: includes current; previous: what a roll-back returns to; by: who asked;
    at: when; number: one more than that of the state before, from 1 on."""

    number: int
    current: str
    resident: tuple[str, ...]
    shadow: Shadow | None
    previous: str | None
    by: str
    at: str
    why: str

    @property
    def versions(self) -> frozenset[str]:
        """All that have to be loaded: the resident ones and the shadow."""
        return frozenset({self.current, *self.resident, *([self.shadow.version] if self.shadow else [])})


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica holds and thinks. applied: the number of the desired state that it follows, 0 for none;
    residents: version id to "loading", "ready" or "failed: ..."; problem: what keeps it from following;
    held_calls: calls held while it swaps; shadow: how a shadow agrees, as a JSON object;
    stale: set when read, whether `at` is too long ago."""

    replica: str
    at: str
    applied: int
    current: str
    residents: Mapping[str, str]
    queue_tokens: int = 0
    problem: str = ""
    held_calls: int = 0
    shadow: Mapping[str, Any] | None = None
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """holder: who pins the version; ttl_s: for how long since the last renewal."""

    id: str
    version: str
    holder: str
    expires_at: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A version that was retired; its id is never used again."""

    version: str
    at: str
    why: str


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, as paths from the store's root on, and the bytes that this freed."""

    paths: tuple[str, ...]
    bytes: int
