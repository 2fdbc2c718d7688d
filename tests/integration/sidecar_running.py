"""Server processes for tests that don't want an event loop around them, or several servers at a time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

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

    def events(self, name: str) -> list[dict[str, Any]]:
        return events(self.log, name)


@contextmanager
def running(
    folder: Path,
    *arguments: str,
    module: str = FAKE,
    port: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
    python: str = sys.executable,
) -> Iterator[Running]:
    """A server from serving to killed; `folder` gets its log and its ready file."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready", folder / "log"
    command = [python, "-m", module, *FLAGS, "--listen.port", str(port), "--ready-file", str(ready), *arguments]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=stream)
    try:
        yield Running(wait_for_address(ready, process, log), process, log)
    finally:
        process.kill()
        process.wait()


def wait_for_address(ready: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """What the ready file says, as soon as there is one."""
    until(lambda: ready.exists() or process.poll() is not None, log)
    assert process.poll() is None, log.read_text()
    return ready.read_text().strip()


def until(condition: Callable[[], bool], log: Path | None = None) -> None:
    """Waits for what happens in other processes; fails with what the log says."""
    give_up_at_s = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < give_up_at_s, log.read_text() if log else ""
        time.sleep(0.02)


def events(log: Path, name: str) -> list[dict[str, Any]]:
    """The log's lines about one kind of event, so far."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [line for line in lines if line["event"] == name]


def free_port() -> int:
    """For a server that comes back where it was."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
