"""Brings this replica to what the store asks for, again and again: loads, promotes, unloads, and says how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from themis_judge.store import CacheFull, DesiredState, JudgeStore, StoreError, StoreUnavailable
from themis_sidecar.logs import Logger
from themis_sidecar.observe.metrics import Metrics
from themis_sidecar.versions.board import Board, ResidentStatus
from themis_sidecar.versions.loading import Loader, LoadFailed, Prepared
from themis_sidecar.versions.reporting import Reporter
from themis_sidecar.versions.residents import Resident, Residents
from themis_sidecar.versions.rollback import Rollback
from themis_sidecar.versions.shadow import Shadow
from themis_sidecar.versions.store_calls import StoreCalls
from themis_sidecar.versions.swap import Swap

RETRY_S = 30.0  # before a version is tried again that nothing can take the place of


@dataclass(frozen=True, slots=True)
class Parts:
    """What the reconciler works with."""

    store: StoreCalls
    loader: Loader
    residents: Residents
    shadow: Shadow
    board: Board
    reporter: Reporter
    rollback: Rollback
    metrics: Metrics
    logger: Logger


class Reconciler:
    """One task that takes one step at a time; serving goes on beside it. A Supply of judges."""

    def __init__(
        self, parts: Parts, max_resident: int, poll_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = parts
        self._residents = parts.residents
        self._board = parts.board
        self._logger = parts.logger
        self._max_resident = max_resident
        self._poll_s = poll_s
        self._clock = clock
        self._swap = Swap(parts.residents)
        self._retry_at_s = 0.0
        self._current_told: str | None = None
        self._loading = False
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        parts.residents.on_idle = self.wake

    @property
    def failure(self) -> str | None:
        """Why nothing can be computed any more, or why the store is no longer followed."""
        failures = (resident.judge.engine.failure for resident in self._residents.all)
        return next(filter(None, failures), self._ended())

    def _ended(self) -> str | None:
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return f"the store is no longer followed: {type(self._task.exception()).__name__}"

    def wake(self) -> None:
        """Looks into the store now instead of at the next poll."""
        self._wake.set()

    async def load(self) -> None:
        """Begins to follow the store; returns when what it asks for is loaded."""
        self._task = asyncio.create_task(self._run())
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()

    async def unload(self) -> bool:
        loading = self._loading
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        self._parts.shadow.stop()
        for resident in _adapters_first(self._residents.all):
            await self._unload(resident)
        self._parts.store.close()
        return not loading

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._round()
            waiting = asyncio.create_task(self._wake.wait())
            try:
                await asyncio.wait((waiting,), timeout=self._poll_s)
            finally:
                waiting.cancel()

    async def _round(self) -> None:
        reporter = self._parts.reporter
        try:
            desired = await self._parts.store.run(JudgeStore.desired)
            reporter.store_answered()
            if desired is not None:
                await self._follow(desired)
        except StoreError as error:
            reporter.store_failed(error)
        self._parts.store.keep(resident.id for resident in self._residents.all)
        await reporter.report()

    async def _follow(self, desired: DesiredState) -> None:
        self._forget(desired)
        await self._release(desired)
        missing = [id for id in (desired.current, *desired.resident) if self._residents.get(id) is None]
        for id in dict.fromkeys(missing):
            if self._residents.get(id) is None and not self._hopeless(id, desired):
                await self._provide(id, desired)
        if missing and await self._superseded(desired):  # loading takes its time; a roll-back may have come
            self.wake()
            return
        if self._residents.get(desired.current) is not None:
            self._promote(desired)
            await self._release(desired)
            self._run_shadow(desired)
        failed = [id for id in desired.resident if self._board.failed(id, desired.number)]
        first = desired.current if desired.current in failed else next(iter(failed), None)
        if first is not None and await self._parts.rollback.propose(first, desired):
            self.wake()
        elif self._residents.get(desired.current) is not None:
            waiting = [id for id in desired.resident if not self._settled(id)]
            if not waiting:
                self._reached(desired)
            elif set(waiting) <= set(failed):  # what can be served here is; the rest only others can
                self._ready.set()

    async def _superseded(self, desired: DesiredState) -> bool:
        latest = await self._parts.store.run(JudgeStore.desired)
        return latest is not None and latest.number != desired.number

    def _settled(self, id: str) -> bool:
        known = self._board.standings.get(id)
        return known is not None and known.status in (ResidentStatus.READY, ResidentStatus.NO_ROOM)

    def _reached(self, desired: DesiredState) -> None:
        if self._board.applied != desired.number:
            self._logger.info("versions_reached", number=desired.number, current=desired.current)
        self._board.applied, self._board.problem = desired.number, ""
        self._ready.set()

    # ------------------------------------------------------------------------------------------ in

    async def _provide(self, id: str, desired: DesiredState) -> None:
        """Makes a version resident, where that can be done now. Raises CacheFull, StoreUnavailable."""
        started_s = self._clock()
        if not self._board.crowded_out(id):
            self._board.note(id, ResidentStatus.LOADING, desired.number)
            await self._parts.reporter.report()
        try:
            if not await self._make_resident(id, desired):
                return
        except LoadFailed as error:
            self._parts.metrics.swaps.load_ended(self._clock() - started_s, ok=False)
            self._failed(id, desired, str(error))
            return
        except (CacheFull, StoreUnavailable) as error:
            self._board.note(id, ResidentStatus.LOADING, desired.number, f"it can't be fetched: {error}")
            raise
        took_s = self._clock() - started_s
        self._parts.metrics.swaps.load_ended(took_s, ok=True)
        self._board.note(id, ResidentStatus.READY, desired.number)
        self._logger.info("version_loaded", version=id, duration_s=round(took_s, 3))
        await self._parts.reporter.report()

    async def _make_resident(self, id: str, desired: DesiredState) -> bool:
        """False where there is no room for it. Raises LoadFailed, CacheFull, StoreUnavailable."""
        plan = await self._parts.loader.plan(id, self._residents, desired.resident)
        full = self._full() and plan.brings_weights
        in_the_way = self._in_the_way() if full and id == desired.current else ()
        if full and not in_the_way:
            self._no_room(id, desired)
            return False
        prepared = await self._parts.loader.prepare(plan)
        self._loading = True
        try:
            await self._load(prepared, in_the_way, desired)
        finally:
            self._loading = False
        return True

    async def _load(self, prepared: Prepared, in_the_way: Sequence[Resident], desired: DesiredState) -> None:
        if in_the_way:
            self._parts.shadow.stop()  # it may stand on what goes; the end of the round starts it again
            await self._swap.exchange(in_the_way, lambda: self._parts.loader.load(prepared, self._residents))
            self._promote(desired)
            for resident in in_the_way:
                await self._gone(resident)
        else:
            for resident in await self._parts.loader.load(prepared, self._residents):
                self._residents.add(resident)

    def _full(self) -> bool:
        return len(self._weights()) >= self._max_resident

    def _weights(self) -> list[Resident]:
        return [resident for resident in self._residents.all if resident.base is None]

    def _in_the_way(self) -> tuple[Resident, ...]:
        """What is exchanged for a new current version: the weights of the one before, and all that stands on them.
        Nothing while others leave: they make room by themselves as soon as they are idle."""
        current = self._residents.current
        if current is None or any(resident.leaving for resident in self._weights()):
            return ()
        base = current.base or current.id
        group = [resident for resident in self._residents.all if base in (resident.id, resident.base)]
        return tuple(_adapters_first(group))

    def _no_room(self, id: str, desired: DesiredState) -> None:
        leaving = [resident.id for resident in self._weights() if resident.leaving]
        if leaving:
            waits = f"waits for the last calls of {', '.join(leaving)}"
            self._board.note(id, ResidentStatus.LOADING, desired.number, waits)
        else:
            self._board.note(id, ResidentStatus.NO_ROOM, desired.number, f"{self._max_resident} are resident")

    def _promote(self, desired: DesiredState) -> None:
        self._tell_current(self._residents.promote(desired.current), desired)

    def _tell_current(self, current: Resident, desired: DesiredState) -> None:
        before, self._current_told = self._current_told, current.id
        if before != current.id:
            swaps = self._parts.metrics.swaps
            (swaps.started if before is None else swaps.promoted)(current.version)
            self._logger.info("version_promoted", version=current.id, before=before, number=desired.number)

    def _run_shadow(self, desired: DesiredState) -> None:
        resident = None if desired.shadow is None else self._residents.get(desired.shadow.version)
        if resident is None or desired.shadow is None:
            self._parts.shadow.stop()
        else:
            self._parts.shadow.start(resident, desired.shadow.share)

    # ------------------------------------------------------------------------------------------ out

    async def _release(self, desired: DesiredState) -> None:
        """What is not wanted any more gets no new calls, and goes as soon as it has none."""
        for resident in _adapters_first(self._residents.all):
            if resident.id in desired.resident:
                self._residents.stay(resident.id)
                self._board.note(resident.id, ResidentStatus.READY, desired.number)
            elif not self._is_served(resident):
                self._residents.leave(resident.id)
                self._board.note(resident.id, ResidentStatus.LEAVING, desired.number)
                if not resident.calls and not any(other.base == resident.id for other in self._residents.all):
                    await self._unload(resident)

    def _is_served(self, resident: Resident) -> bool:
        """Whether it is what callers get who ask for none, or what that stands on."""
        current = self._residents.current
        return current is not None and resident.id in (current.id, current.base)

    async def _unload(self, resident: Resident) -> None:
        agreement = self._parts.shadow.agreement
        if agreement is not None and agreement.version == resident.id:
            self._parts.shadow.stop()
        self._residents.remove(resident.id)
        await resident.judge.unload()
        await self._gone(resident)

    async def _gone(self, resident: Resident) -> None:
        """It is unloaded: nothing here knows it any more."""
        self._board.forget(resident.id)
        self._parts.metrics.forget_version(resident.id)
        self._logger.info("version_unloaded", version=resident.id)

    def _forget(self, desired: DesiredState) -> None:
        """Of versions that are neither wanted nor here only failures stay on the board."""
        for id, known in list(self._board.standings.items()):
            gone = id not in desired.resident and self._residents.get(id) is None
            if gone and known.status is not ResidentStatus.FAILED:
                self._board.forget(id)

    def _failed(self, id: str, desired: DesiredState, reason: str) -> None:
        self._retry_at_s = self._clock() + RETRY_S
        self._board.note(id, ResidentStatus.FAILED, desired.number, reason)
        self._board.problem = f"{id}: {reason}"
        self._logger.error("version_failed", version=id, number=desired.number, reason=reason)

    def _hopeless(self, id: str, desired: DesiredState) -> bool:
        """It failed under this state already. Where nothing else can be served it is tried again after a while."""
        if not self._board.failed(id, desired.number):
            return False
        return self._residents.current is not None or self._clock() < self._retry_at_s


def _adapters_first(residents: Sequence[Resident]) -> list[Resident]:
    return sorted(residents, key=lambda resident: resident.base is None)
