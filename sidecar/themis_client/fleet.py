"""What a fleet of servers holds and should hold. Times are in UTC."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class ResidentStatus(enum.Enum):
    """How far a replica is with a version; numbers as in the contract."""

    UNKNOWN = 0
    """A status that this client does not know: the server is newer."""
    LOADING = 1
    READY = 2
    LEAVING = 3
    FAILED = 4
    NO_ROOM = 5


@dataclass(frozen=True, slots=True)
class Shadow:
    """share: of live rating items that the version scores as well, in (0, 1]."""

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the fleet should hold. number: the highest one is in force; previous: where a roll-back goes."""

    number: int
    current: str
    resident: tuple[str, ...]
    shadow: Shadow | None
    previous: str | None
    by: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class ResidentVersion:
    """One version on one replica."""

    version: str
    status: ResidentStatus
    detail: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a shadow agrees with the version that answers; the two figures are None where nothing was compared."""

    version: str
    compared: int
    same_rating_share: float | None
    mean_absolute_difference: float | None
    dropped: int
    failed: int


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What a replica holds and thinks. applied: the number of the desired state that it has reached, 0 for none;
    problem: what keeps it from following; stale: whether it has been silent for long."""

    replica: str
    at: datetime
    applied: int
    current: str
    residents: tuple[ResidentVersion, ...]
    queue_tokens: int
    held_calls: int
    problem: str
    shadow: Agreement | None
    stale: bool


@dataclass(frozen=True, slots=True)
class FleetState:
    """desired: None where no version was ever promoted. reached: whether the state that was asked for is in force and
    every replica that isn't stale has reached it; None where nothing was asked for."""

    desired: DesiredState | None
    replicas: tuple[ReplicaState, ...]
    reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a version: while it lives, the version is neither retired nor unloaded."""

    id: str
    version: str
    holder: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in the store. problem: what is wrong with it, empty where nothing is; of a broken version the other
    fields but `id` may be empty."""

    id: str
    name: str
    created_at: datetime
    parent: str
    base_model: str
    kind: str
    template_digest: str
    bytes: int
    problem: str
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything there is. answering: the replica that told it; store_problem: why the store can't be read."""

    versions: tuple[StoredVersion, ...]
    fleet: FleetState
    answering: ReplicaState
    store_problem: str
