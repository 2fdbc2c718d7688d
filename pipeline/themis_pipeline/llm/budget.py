"""Budgets for a fleet, in millionths of a currency: slices are leased from the ledger before they are spent.

The bound: what is leased never exceeds the total, and an attempt goes out only after the most it can cost was set
aside from what is leased. So the bill is at most the total, plus what answers in flight cost beyond that most (an
endpoint that bills more tokens than it was allowed). Near the end up to a slice a process may lie idle, and a process
that is killed takes the rest of its slice with it: money that is counted as spent and wasn't.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from themis_pipeline.llm.errors import BudgetSpent
from themis_pipeline.llm.ledger import Ledger

_RETRY_AFTER_S = 300.0


class Budget:
    """name: a new one is a new budget. within: another one that pays too. For one event loop."""

    def __init__(
        self, name: str, total_micros: int, slice_micros: int, ledger: Ledger, within: Budget | None = None
    ) -> None:
        if total_micros < 0 or slice_micros < 1:
            raise ValueError("total_micros is not negative, slice_micros at least 1")
        self._account, self._total, self._slice, self._ledger = f"budget-{name}", total_micros, slice_micros, ledger
        self._within = within
        self._left = 0
        self._taken = 0
        self._turn = asyncio.Lock()

    @property
    def left_micros(self) -> int:
        """What the fleet has left, as this process last saw it: others may have taken since."""
        return self._total - self._taken + self._left

    async def set_aside(self, micros: int) -> Reservation:
        """Raises BudgetSpent, SharedStoreUnavailable."""
        if micros == 0:
            return Reservation(0, self._settled)
        while self._left < micros:
            # A slice arrives though the call that asked for it be cancelled: the ledger counts it as spent.
            await asyncio.shield(self._lease(micros))
        self._left -= micros
        reservation = Reservation(micros, self._settled)
        if self._within is not None:
            try:
                reservation.also = await self._within.set_aside(micros)
            except BaseException:
                reservation.settle(0)
                raise
        return reservation

    async def look(self) -> None:
        """Learns what the fleet has taken. Raises SharedStoreUnavailable."""
        (self._taken,) = await asyncio.to_thread(self._ledger.taken, self._account) or (0,)

    async def close(self) -> None:
        """Gives back what is leased and not spent. Call it when no call is in flight."""
        async with self._turn:
            left, self._left = self._left, 0
            if left:
                await asyncio.to_thread(self._ledger.give_back, self._account, (left,))

    async def _lease(self, micros: int) -> None:
        async with self._turn:
            least = micros - self._left
            if least <= 0:  # another call's slice is enough
                return
            await self.look()
            wish = max(least, self._slice)
            more = await asyncio.to_thread(self._ledger.take, self._account, (least,), (wish,), (self._total,))
            if more is None:
                raise BudgetSpent(f"{self._account}: has no room for {micros} millionths more", _RETRY_AFTER_S)
            self._taken += more[0]
            self._left += more[0]

    def _settled(self, unspent: int) -> None:
        self._left += unspent


class Budgets:
    """One for all stages, and one within it for each stage that has a bound of its own."""

    def __init__(self, everything: Budget, stages: Mapping[str, Budget] | None = None) -> None:
        self._everything, self._stages = everything, dict(stages or {})

    def __iter__(self) -> Iterator[tuple[str, Budget]]:
        """With the stage's name, "" for all."""
        yield from self._stages.items()
        yield "", self._everything

    def of(self, stage: str) -> Budget:
        return self._stages.get(stage, self._everything)

    async def look(self) -> None:
        """Raises SharedStoreUnavailable."""
        for _, budget in self:
            await budget.look()

    async def close(self) -> None:
        for _, budget in self:
            await budget.close()


class Reservation:
    """What is set aside for one attempt: settled once; until then, and if never, it counts as spent. also: of the
    budget around it."""

    def __init__(self, micros: int, settled: Callable[[int], None]) -> None:
        self.micros = micros
        self.also: Reservation | None = None
        self._settled: Callable[[int], None] | None = settled

    def settle(self, spent_micros: int) -> None:
        """spent_micros: may be more than was set aside; the next calls then have less."""
        settled, self._settled = self._settled, None
        if settled is not None:
            settled(self.micros - spent_micros)
            if self.also is not None:
                self.also.settle(spent_micros)
