"""What a replica proposes when a version failed on it, so that the fleet agrees again."""

from __future__ import annotations

from themis_judge.store import Conflict, DesiredState, JudgeStore
from themis_sidecar.logs import Logger
from themis_sidecar.observe.swaps import SwapMetrics
from themis_sidecar.versions import desired as states
from themis_sidecar.versions.board import Board, now
from themis_sidecar.versions.residents import Residents
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
        stale_after_s: float,
    ) -> None:
        self._store = store
        self._residents = residents
        self._board = board
        self._swaps = swaps
        self._logger = logger
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
            return states.without(desired, failed, author)
        return states.rolled_back(desired, author) if await self._may_roll_back(failed) else None

    async def _may_roll_back(self, failed: str) -> bool:
        """A replica that serves something else may, and any where nobody has accepted the version. One that only just
        starts must not take from the others what they serve: the fault is then its own, its software's for instance."""
        if self._residents.current is not None:
            return True
        reports = await self._store.run(JudgeStore.reports, self._stale_after_s)
        return not any(report.current == failed for report in reports if report.replica != self._board.replica)
