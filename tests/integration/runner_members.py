"""Processes with a runner each, started and sent signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.integration.runner_world import DEADLINE_S, Topics
from themis_pipeline.runner.failpoints import Step

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Member:
    """`calls` grows by a byte with each handling of this slot's processes."""

    topics: Topics
    slot: str
    calls: Path
    process: subprocess.Popen[bytes]
    said: bytes = b""
    """On its standard error, once it has ended."""

    @classmethod
    def start(
        cls,
        topics: Topics,
        slot: str,
        calls: Path,
        step: Step | None = None,
        times: int = 2,
        number: signal.Signals = signal.SIGKILL,
    ) -> Member:
        named = "never" if step is None else step.value
        what = [topics.address, topics.group, slot, str(calls), named, str(times), number.name]
        command = [sys.executable, "-m", "tests.integration.runner_process", *what]
        return cls(topics, slot, calls, subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE))

    def again(self) -> Member:
        return Member.start(self.topics, self.slot, self.calls)

    def __enter__(self) -> Member:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def frozen(self) -> None:
        """Returns once it has stopped itself."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"ended instead: {status}"

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stopped(self) -> int:
        """Gracefully."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, or the signal's number below zero."""
        if not self.said:
            _, self.said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode

    def handled(self) -> int:
        """How many times a handler began, in all processes of this slot."""
        return self.calls.stat().st_size if self.calls.exists() else 0
