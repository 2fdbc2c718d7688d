"""When calls are due: at once in a closed loop, at the times of a Poisson process otherwise."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from themis_client.bench.shape import Shape

MAX_ITEMS = 1_000_000
"""What one run keeps in memory. A run that reaches it ends, and says so."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call: its items, by number, and when it should leave. measured: whether the warm-up is over by then."""

    first: int
    items: int
    due_s: float
    measured: bool

    @property
    def indices(self) -> range:
        return range(self.first, self.first + self.items)


class Arrivals:
    """Shared by all callers. A call that is taken late keeps its time: it is the server that was late, not the call."""

    def __init__(self, shape: Shape, clock: Callable[[], float], start_s: float) -> None:
        self._clock = clock
        self._size = 1 if shape.stream else shape.items_per_call
        self._gap_s = None if shape.rate is None else self._size / shape.rate
        self._chance = random.Random(f"{shape.seed} arrivals")
        self._due_s = start_s
        self._measured_from_s = start_s + shape.warmup_s
        self._until_s = float("inf") if shape.duration_s is None else self._measured_from_s + shape.duration_s
        self._items_left = MAX_ITEMS if shape.items is None else min(shape.items, MAX_ITEMS)
        self._room = MAX_ITEMS
        self._next = 0

    @property
    def measured_from_s(self) -> float:
        return self._measured_from_s

    @property
    def until_s(self) -> float:
        """When the last call may be due; infinite where a number of items ends the run."""
        return self._until_s

    @property
    def full(self) -> bool:
        """Whether the run ended because it had as many items as one run may keep."""
        return self._room == 0

    def take(self) -> Arrival | None:
        """The next call; None when there is none any more."""
        due_s = self._next_due_s()
        measured = due_s >= self._measured_from_s
        size = min(self._size, self._room, self._items_left if measured else self._size)
        if due_s >= self._until_s or size == 0:
            return None
        arrival = Arrival(self._next, size, due_s, measured)
        self._next += size
        self._room -= size
        self._items_left -= size if measured else 0
        return arrival

    def _next_due_s(self) -> float:
        if self._gap_s is None:
            return self._clock()
        self._due_s += self._chance.expovariate(1 / self._gap_s)
        return self._due_s
