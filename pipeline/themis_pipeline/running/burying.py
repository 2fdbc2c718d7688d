"""Dead letters as they are written, with a line in the log for each."""

from __future__ import annotations

from dataclasses import dataclass

from themis_pipeline.kafka.seam import Output
from themis_pipeline.runner.stage import Bury, DeadRecord
from themis_pipeline.running.logs import Logger


@dataclass(frozen=True, slots=True)
class LoggedBurial:
    bury: Bury
    logger: Logger

    def __call__(self, dead: DeadRecord) -> Output:
        origin = dead.delivery.origin
        self.logger.warning(
            "given_up",
            reason=dead.reason.value,
            code=dead.error,
            detail=dead.detail,
            attempts=dead.attempts,
            topic=origin.partition.topic,
            partition=origin.partition.number,
            offset=origin.offset,
        )
        return self.bury(dead)
