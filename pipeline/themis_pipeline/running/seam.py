"""What runs in a process: a stage around its handler, or one that reads in a way of its own."""

from __future__ import annotations

from typing import Protocol


class Runs(Protocol):
    async def run(self) -> None:
        """Until `stop`; raises what ended it otherwise."""
        ...

    def stop(self) -> None:
        """Finishes what is in hand, within a bound of its own, and lets `run` return; also before it was called. For
        the event loop's thread."""
        ...

    @property
    def joined(self) -> bool:
        """Whether it takes part in reading its topics, though perhaps with no partition of its own."""
        ...


class StageEnded(RuntimeError):
    """A stage came to an end that nobody asked for."""


class Broken(RuntimeError):
    """A stage can't go on; the text says why, and holds nothing of a record."""


class Fatal(BaseException):
    """Not about one record: what is wrong is wrong for all of them, and the process ends. `__cause__` says what."""


class StageFailed(RuntimeError):
    """What ended a stage, and with it the process."""

    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__(f"{stage}: {type(error).__name__}")
        self.stage = stage
        self.error = error
