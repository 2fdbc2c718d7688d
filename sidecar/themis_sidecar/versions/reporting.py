"""Tells the fleet what this replica holds: in the store, where the others and whoever asks find it."""

from __future__ import annotations

import time
from collections.abc import Callable

from themis_judge.store import JudgeStore, ReplicaReport, StoreError
from themis_sidecar.admission import Admission
from themis_sidecar.logs import Logger
from themis_sidecar.versions.board import Board, now
from themis_sidecar.versions.convert import agreement_facts
from themis_sidecar.versions.holding import Holding
from themis_sidecar.versions.residents import Residents
from themis_sidecar.versions.shadow import Shadow
from themis_sidecar.versions.store_calls import StoreCalls

StateTeller = Callable[[], ReplicaReport]


class ReplicaView:
    """This replica's state as of now."""

    def __init__(
        self, board: Board, residents: Residents, admission: Admission, holding: Holding, shadow: Shadow
    ) -> None:
        self._board = board
        self._residents = residents
        self._admission = admission
        self._holding = holding
        self._shadow = shadow

    def __call__(self) -> ReplicaReport:
        board, current, agreement = self._board, self._residents.current, self._shadow.agreement
        texts = {resident.id: "ready" for resident in self._residents.all}  # a given judge is on no board
        texts |= {id: standing.text() for id, standing in board.standings.items()}
        return ReplicaReport(
            replica=board.replica,
            at=now(),
            applied=board.applied,
            current="" if current is None else current.id,
            residents=dict(sorted(texts.items())),
            queue_tokens=self._admission.queued_tokens,
            problem=board.store_problem or board.problem,
            held_calls=self._holding.calls,
            shadow=None if agreement is None else agreement_facts(agreement),
        )


class Reporter:
    """Reports at every change, and every `report_s` so that the replica doesn't seem gone."""

    def __init__(
        self,
        store: StoreCalls,
        board: Board,
        view: StateTeller,
        logger: Logger,
        report_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._board = board
        self._view = view
        self._logger = logger
        self._report_s = report_s
        self._clock = clock
        self._told: object = None
        self._told_at_s = float("-inf")

    async def report(self) -> None:
        """A store that can't be written is noted, and tried again at the next report."""
        state = self._view()
        fact = (state.applied, state.current, state.residents, state.problem)
        if fact == self._told and self._clock() - self._told_at_s < self._report_s:
            return
        try:
            await self._store.run(JudgeStore.report, state)
        except StoreError as error:
            self._told_at_s = float("-inf")
            self._failed(error)
            self._board.unwritable = str(error)
            return
        self._told, self._told_at_s = fact, self._clock()
        self._board.unwritable = ""

    def store_failed(self, error: StoreError) -> None:
        """It could not be read."""
        self._failed(error)
        self._board.unreadable = str(error)

    def store_answered(self) -> None:
        """It could be read."""
        self._board.unreadable = ""

    def _failed(self, error: StoreError) -> None:
        """Said once, however often it is tried."""
        if str(error) not in (self._board.unreadable, self._board.unwritable):
            self._logger.warning("store_failed", kind=type(error).__name__, reason=str(error))
