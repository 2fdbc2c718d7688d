"""A runner in a process of its own that can be told to kill or to freeze itself:
`python -m ... ADDRESS GROUP SLOT CALLS STEP N SIGNAL`.

At the N-th time that it reaches STEP, with some calls behind it, it sends itself SIGNAL; STEP `never` lets it live
until SIGTERM. Each handling adds a byte to the file CALLS.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.integration.runner_world import QUICK_END, SHORT, Topics, make_runner
from themis_pipeline.runner.failpoints import Step
from themis_pipeline.runner.watchdog import Watchdog

FIRST_CALLS = 20


class Calls:
    """Written at once: whatever kills the process, what it began is counted."""

    def __init__(self, path: str) -> None:
        self.count = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __call__(self, value: str) -> None:
        self.count += 1
        os.write(self._file, b".")


class Signals:
    def __init__(self, calls: Calls, step: str, times: int, number: signal.Signals) -> None:
        self._calls = calls
        self._step = step
        self._left = times
        self._number = number

    def reach(self, step: Step) -> None:
        # A group's first member joins once more as it learns what partitions there are: that doesn't count.
        if step.value == self._step and self._calls.count >= FIRST_CALLS:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._number)


async def main(address: str, group: str, slot: str, calls: str, step: str, times: str, number: str) -> None:
    watchdog = Watchdog()
    watchdog.start()
    noted = Calls(calls)
    failpoints = Signals(noted, step, int(times), signal.Signals[number])
    runner, stage, _ = make_runner(
        Topics(address, group), slot, limits=QUICK_END, transport=SHORT, failpoints=failpoints, watchdog=watchdog
    )
    stage.noted = noted
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
    await runner.run()
    watchdog.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
