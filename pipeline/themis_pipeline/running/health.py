"""How far each stage is, as its metrics tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import Gauge

from themis_pipeline.runner.metrics import RunnerFamilies
from themis_pipeline.running.seam import Runs

_Values: TypeAlias = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True, slots=True)
class StageHealth:
    """progress_age_s: since the offset of the partition that waits longest last moved; None: none of its partitions
    that are here has anything to do."""

    joined: bool
    partitions: int
    lag_records: int
    progress_age_s: float | None


class Health:
    """`ready` once every stage takes part in its group, until the process is told to stop."""

    def __init__(
        self, stages: Mapping[str, Runs], families: RunnerFamilies, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._stages = stages
        self._families = families
        self._wall_s = wall_s
        self.stopping = False

    def stalled(self, limit_s: float) -> list[str]:
        """Stages with a partition that has something to do and has not moved for so long."""
        return [name for name, stage in self.stages().items() if (stage.progress_age_s or 0.0) > limit_s]

    @property
    def ready(self) -> bool:
        return not self.stopping and all(stage.joined for stage in self._stages.values())

    def stages(self) -> Mapping[str, StageHealth]:
        lags, moved = self._by_partition(self._families.lag), self._by_partition(self._families.progress)
        return {name: self._stage(name, stage, lags, moved) for name, stage in self._stages.items()}

    def _stage(self, name: str, stage: Runs, lags: _Values, moved: _Values) -> StageHealth:
        own = {place: lag for place, lag in lags.items() if place[0] == name}
        waiting = [moved[place] for place, lag in own.items() if lag > 0 and place in moved]
        age_s = max(0.0, self._wall_s() - min(waiting)) if waiting else None
        partitions = sum(place[0] == name for place in moved)
        return StageHealth(stage.joined, partitions, int(sum(own.values())), age_s)

    def _by_partition(self, gauge: Gauge) -> _Values:
        samples = [sample for family in gauge.collect() for sample in family.samples]
        return {
            (sample.labels["stage"], sample.labels["topic"], sample.labels["partition"]): sample.value
            for sample in samples
        }
