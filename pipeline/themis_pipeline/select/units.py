"""What is taken or dropped as one: a record, or both orders of a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from themis_pipeline.select.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Unit:
    """id: the record's, or the pair's. members: one, or the two orders of a pair, fewer or more where the archive lacks
    or repeats one."""

    id: str
    members: tuple[Candidate, ...]
    is_pair: bool

    @property
    def scenario(self) -> str:
        return self.members[0].scenario

    @property
    def source(self) -> str | None:
        """Of those that have a cap; None: people didn't feed it."""
        return self.members[0].source if self.members[0].people_fed else None

    @property
    def rating(self) -> str:
        """Of a pair without its orders: which letter is the better one's depends on the order alone."""
        return " ".join(sorted({member.rating for member in self.members}))

    @property
    def difficulty(self) -> float:
        """Of a pair the mean. Of units whose members are all scored only."""
        return fmean(member.difficulty for member in self.members if member.difficulty is not None)

    @property
    def whole(self) -> bool:
        orders = sorted(member.swapped for member in self.members)
        return not self.is_pair or orders == [False, True]


def units_of(candidates: Iterable[Candidate]) -> list[Unit]:
    """In the order of their ids."""
    found: dict[tuple[bool, str], list[Candidate]] = {}
    for candidate in candidates:
        key = (candidate.pair is not None, candidate.id if candidate.pair is None else candidate.pair)
        found.setdefault(key, []).append(candidate)
    return [Unit(id, tuple(members), is_pair) for (is_pair, id), members in sorted(found.items())]


def lot(seed: int, id: str) -> str:
    """Puts ids in an order by chance that depends on the seed and the id alone: it stays when others come or go."""
    return hashlib.sha256(f"{seed}:{id}".encode("utf-8", "surrogatepass")).hexdigest()
