"""Server processes for tests that don't want an event loop around them, or several servers at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
FAKE = "tests.integration.sidecar_process"
START_S = 60.0
FLAGS = ("--limits.drain_notice_s", "0", "--engine.model", "fake")


@dataclass(frozen=True)
class Running:
    """A process that serves."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.process.wait(START_S)


@contextmanager
def running(
    folder: Path,
    *arguments: str,
    module: str = FAKE,
    port: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Running]:
    """A server from serving to killed; `folder` gets its log and its ready file."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready", folder / "log"
    command = [sys.executable, "-m", module, *FLAGS, "--listen.port", str(port), "--ready-file", str(ready), *arguments]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=stream)
    try:
        yield Running(wait_for_address(ready, process, log), process, log)
    finally:
        process.kill()
        process.wait()


def wait_for_address(ready: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """What the ready file says, as soon as there is one."""
    give_up_at_s = time.monotonic() + START_S
    while not ready.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at_s, log.read_text()
        time.sleep(0.02)
    return ready.read_text().strip()
