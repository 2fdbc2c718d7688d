"""How much of a selection one source may be: who feeds most would else decide what a judge learns, and one that is
poisoned would decide it all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from themis_pipeline.select.units import Unit, lot


@dataclass(frozen=True, slots=True)
class Caps:
    """share: of what is kept, the most that may come of one people-fed source; None: whatever there is. shares: of
    sources by name, in its place."""

    share: float | None = 0.5
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if any(not 0 <= share <= 1 for share in (*self.shares.values(), self.share or 0.0)):
            raise ValueError("a source's share lies in [0, 1]")

    def of(self, source: str | None) -> float:
        if source is None:
            return 1.0
        return self.shares.get(source, 1.0 if self.share is None else self.share)


def capped(
    left: Sequence[Unit], choose: Callable[[Sequence[Unit]], list[Unit]], caps: Caps, seed: int
) -> tuple[list[Unit], list[Unit]]:
    """What `choose` keeps of `left` with no source above its share of it, and what is left out for that. What is above
    is drawn by lot, so that a cap prefers nothing, and its place is offered to other sources. Where there is one source
    alone a share of it says nothing, and none holds."""
    out: list[Unit] = []
    if len({unit.source for unit in left}) < 2:
        return choose(left), []
    while True:
        kept = choose(left)
        above = _above(kept, caps)
        if not above:
            return kept, out
        stay = {(unit.is_pair, unit.id) for source, most in above.items() for unit in _some(kept, source, most, seed)}
        out += [unit for unit in left if unit.source in above and (unit.is_pair, unit.id) not in stay]
        left = [unit for unit in left if unit.source not in above or (unit.is_pair, unit.id) in stay]


def _above(kept: Sequence[Unit], caps: Caps) -> dict[str | None, int]:
    """Sources with more records than they may have, and how many that is."""
    records: Counter[str | None] = Counter()
    for unit in kept:
        records[unit.source] += len(unit.members)
    most = {source: math.floor(caps.of(source) * records.total() + 1e-9) for source in records}
    return {source: most[source] for source, count in records.items() if count > most[source]}


def _some(kept: Iterable[Unit], source: str | None, records: int, seed: int) -> list[Unit]:
    found = []
    for unit in sorted((unit for unit in kept if unit.source == source), key=lambda unit: lot(seed, unit.id)):
        if len(unit.members) <= records:
            found.append(unit)
            records -= len(unit.members)
    return found
