"""What a replica proposes when a version failed on it, so that the fleet agrees again."""

from __future__ import annotations

from themis_judge.store import Conflict, DesiredState, JudgeStore, ReplicaReport
from themis_sidecar.logs import Logger
from themis_sidecar.observe.swaps import SwapMetrics
from themis_sidecar.versions import desired as states
from themis_sidecar.versions.board import Board, ResidentStatus, now, read_standing
from themis_sidecar.versions.residents import Residents
from themis_sidecar.versions.rooms import read_room
from themis_sidecar.versions.store_calls import StoreCalls


class Rollback:
    """Goes back to what was current before the failed version, or on without one that was to come beside it."""

    def __init__(
        self,
        store: StoreCalls,
        residents: Residents,
        board: Board,
        swaps: SwapMetrics,
        logger: Logger,
        max_resident: int,
        stale_after_s: float,
    ) -> None:
        self._store = store
        self._residents = residents
        self._board = board
        self._swaps = swaps
        self._logger = logger
        self._max_resident = max_resident
        self._stale_after_s = stale_after_s

    async def propose(self, failed: str, desired: DesiredState) -> bool:
        """Whether there is another desired state now, ours or somebody else's. Raises StoreUnavailable."""
        following = await self._following(failed, desired)
        if following is None:
            return False
        try:
            await self._store.run(JudgeStore.propose, following)
        except Conflict:  # others were faster: what they decided is read next
            return True
        self._swaps.rolled_back()
        self._logger.warning("rolled_back", version=failed, to=following.current, number=following.number)
        return True

    async def _following(self, failed: str, desired: DesiredState) -> DesiredState | None:
        reason = self._board.standings[failed].detail
        author = states.Author(self._board.replica, now(), f"{failed} failed on {self._board.replica}: {reason}")
        if failed != desired.current:
            return states.without(desired, failed, author) if await self._may_leave_out(failed) else None
        if desired.previous is None or not await self._may_roll_back(failed):
            return None
        before = await self._store.run(JudgeStore.desired_before, desired)
        retired = {tombstone.version for tombstone in await self._store.run(JudgeStore.tombstones)}
        named = {desired.previous, *desired.resident, *(() if before is None else before.resident)}
        room = await read_room(self._store, self._max_resident, named - retired)
        return states.rolled_back(desired, before, room, author)

    async def _may_leave_out(self, failed: str) -> bool:
        """A version beside the current one goes if nobody pins it and it is ready nowhere: a fault of one replica's
        own must not take from the others what their callers use."""
        if await self._store.run(JudgeStore.leases, failed):
            return False
        return not any(
            read_standing(report.residents.get(failed, ""))[0] is ResidentStatus.READY
            for report in await self._others()
        )

    async def _may_roll_back(self, failed: str) -> bool:
        """A replica that serves something else may, and any where nobody has accepted the version. One that only just
        starts must not take from the others what they serve: the fault is then its own, its software's for instance."""
        if self._residents.current is not None:
            return True
        return not any(report.current == failed for report in await self._others())

    async def _others(self) -> list[ReplicaReport]:
        """What the other replicas say, as long as they live."""
        reports = await self._store.run(JudgeStore.reports, self._stale_after_s)
        return [report for report in reports if report.replica != self._board.replica and not report.stale]
