"""Where a server's judges come from: one that is given, or those that a store asks for."""

from __future__ import annotations

import time
from typing import Protocol

from themis_judge.judge import Judge
from themis_sidecar.observe.swaps import SwapMetrics
from themis_sidecar.versions.residents import Resident, Residents


class Supply(Protocol):
    """What the server's life needs of its judges."""

    @property
    def failure(self) -> str | None:
        """Why nothing can be computed any more; None while all is well."""
        ...

    async def load(self) -> None:
        """Returns when calls can be served."""
        ...

    async def unload(self) -> bool:
        """False where a load is still under way in a thread, which nobody can stop."""
        ...


class FixedJudge:
    """One judge, from the server's start to its end."""

    def __init__(self, judge: Judge, residents: Residents, swaps: SwapMetrics) -> None:
        self._judge = judge
        self._residents = residents
        self._swaps = swaps

    @property
    def failure(self) -> str | None:
        return self._judge.engine.failure

    async def load(self) -> None:
        began_s, ok = time.monotonic(), False
        try:
            await self._judge.load()
            ok = True
        finally:
            self._swaps.load_ended(time.monotonic() - began_s, ok)
        self.admit()

    def admit(self) -> None:
        """From now on calls get the judge, which is loaded."""
        self._residents.add(Resident(self._judge, self._judge.version))
        self._residents.promote(self._judge.version.id)
        self._swaps.started(self._judge.version)

    async def unload(self) -> bool:
        await self._judge.unload()
        return True
