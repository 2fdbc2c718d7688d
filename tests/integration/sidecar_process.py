"""The real server as a process of its own, around a fake judge that obeys signals: SIGUSR1 releases what is held,
SIGUSR2 fails the engine. With FAKE_JUDGE=block-load in the environment it never finishes loading."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests.integration.sidecar_fakes import FakeJudge
from themis_sidecar.__main__ import serve
from themis_sidecar.config import read_command_line
from themis_sidecar.observe.telemetry import open_telemetry


class SignalledJudge(FakeJudge):
    async def load(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.released.set)
        loop.add_signal_handler(signal.SIGUSR2, self.fake_engine.fail, "no progress")
        await super().load()


def main(judge: FakeJudge) -> None:
    if os.environ.get("FAKE_JUDGE") == "block-load":
        judge.load_blocked = asyncio.Event()
    launch = read_command_line(sys.argv[1:])
    with open_telemetry(launch.config.tracing, "1.2.3") as telemetry:
        serve(judge, launch, telemetry)


if __name__ == "__main__":
    main(SignalledJudge())
