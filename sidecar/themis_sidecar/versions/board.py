"""What this replica holds and thinks: written by what follows the store, read by reports and by callers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from themis_judge.store import SystemClock, written


class ResidentStatus(Enum):
    """How far a replica is with a version; numbers as in the contract's ResidentStatus."""

    LOADING = 1
    READY = 2
    LEAVING = 3
    FAILED = 4
    NO_ROOM = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """number: the desired state that it was found under; detail: more about it, for people."""

    status: ResidentStatus
    number: int
    detail: str = ""

    def text(self) -> str:
        """As reports in the store have it."""
        name = self.status.name.lower()
        return f"{name}: {self.detail}" if self.detail else name


def read_standing(text: str) -> tuple[ResidentStatus | None, str]:
    """Status and detail of a report's text; None for a status of another release."""
    name, _, detail = text.partition(": ")
    return (ResidentStatus[name.upper()] if name.upper() in ResidentStatus.__members__ else None), detail


class Board:
    """One replica's standing with every version that it has to do with."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.applied = 0
        self.problem = ""
        self.unreadable = ""
        self.unwritable = ""
        self.standings: dict[str, Standing] = {}

    @property
    def store_problem(self) -> str:
        """Why the store can't be read or written; empty where it can."""
        return self.unreadable or self.unwritable

    def note(self, version: str, status: ResidentStatus, number: int, detail: str = "") -> None:
        self.standings[version] = Standing(status, number, detail)

    def forget(self, version: str) -> None:
        self.standings.pop(version, None)

    def failed(self, version: str, number: int) -> bool:
        """Whether it failed here under this desired state or a later one; a newer state gives it another try."""
        known = self.standings.get(version)
        return known is not None and known.status is ResidentStatus.FAILED and known.number >= number

    def crowded_out(self, version: str) -> bool:
        """Whether there was no room for it when last tried."""
        known = self.standings.get(version)
        return known is not None and known.status is ResidentStatus.NO_ROOM


def now() -> str:
    """As the store writes times."""
    return written(SystemClock().now())
