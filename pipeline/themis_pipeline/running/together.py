"""Several stages side by side: they go on until all are told to stop, or until one fails, which stops the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from themis_pipeline.running.logs import Logger
from themis_pipeline.running.seam import Runs, StageEnded, StageFailed


class Together:
    """By stage. `stopping` is told once, as they begin to stop, for whatever reason."""

    def __init__(self, stages: Mapping[str, Runs], logger: Logger, stopping: Callable[[], None]) -> None:
        self._stages = stages
        self._logger = logger
        self._stopping = stopping
        self._told = asyncio.Event()

    def stop(self) -> None:
        if self._told.is_set():
            return
        self._told.set()
        self._stopping()
        for stage in self._stages.values():
            stage.stop()

    async def run(self) -> None:
        """Raises StageFailed for the first failure, once all have stopped."""
        failed: list[StageFailed] = []
        running = {asyncio.create_task(stage.run()): name for name, stage in self._stages.items()}
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                name = running.pop(task)
                error = self._ended(name, task)
                if error is not None:
                    failed.append(StageFailed(name, error))
            if failed:
                self.stop()
        if failed:
            raise failed[0] from failed[0].error

    def _ended(self, name: str, task: asyncio.Task[None]) -> BaseException | None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None and not self._told.is_set():
            error = StageEnded("came to an end that nobody asked for")
        if error is None:
            self._logger.info("stage_stopped", stage=name)
        else:
            self._logger.error("stage_failed", stage=name, error=error)
        return error
