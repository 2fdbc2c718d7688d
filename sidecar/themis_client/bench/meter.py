"""Whether the client keeps up: a measuring program that is itself the bottleneck measures itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from themis_client.deadline import Runtime

TICK_S = 0.1


@dataclass(slots=True)
class Meter:
    """cpu: seconds of processor time that this process has had. late_s: by how much each tick came too late, which is
    how late an answer may be noticed."""

    runtime: Runtime
    cpu: Callable[[], float] = time.process_time
    late_s: list[float] = field(default_factory=list)
    _from: tuple[float, float] = (0.0, 0.0)
    _to: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self.late_s.clear()
        self._from = self._to = self._now()

    def stop(self) -> None:
        self._to = self._now()

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        while True:
            due_s = self.runtime.clock() + TICK_S
            await self.runtime.sleep(TICK_S)
            self.late_s.append(max(0.0, self.runtime.clock() - due_s))
            self.stop()

    @property
    def cpu_share(self) -> float:
        """Of one core, from start to stop. Python computes on one core only: close to 1 there is nothing left."""
        wall_s, cpu_s = (end - start for start, end in zip(self._from, self._to, strict=True))
        return cpu_s / wall_s if wall_s > 0 else 0.0

    def _now(self) -> tuple[float, float]:
        return self.runtime.clock(), self.cpu()
