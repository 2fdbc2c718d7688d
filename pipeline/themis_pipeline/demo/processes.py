"""The demo's processes: started with a log of their own, ready when they say so, stopped in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S, STOP_S, COMMAND_S, POLL_S = 180.0, 60.0, 120.0, 0.1
LOG_CHARACTERS = 2000
COLUMNS = 110


class Failed(Exception):
    """A process didn't do what it was started for; the text ends with its last words."""


@dataclass(frozen=True, slots=True)
class Running:
    """One of our own modules at work."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def until(self, ready: Callable[[], bool]) -> None:
        """Returns when it is ready. Raises Failed for one that ends before, or takes too long."""
        give_up_at_s = time.monotonic() + START_S
        while not ready():
            if self.process.poll() is not None:
                raise self.failed(f"ended with exit code {self.process.returncode}")
            if time.monotonic() > give_up_at_s:
                raise self.failed(f"was not ready after {START_S:g} s")
            time.sleep(POLL_S)

    def failed(self, what: str) -> Failed:
        said = self.log.read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]
        return Failed(f"{self.name} {what}; {self.log} ends with:\n{said}")

    def stop(self) -> None:
        """Asks it to finish what is in hand. Raises Failed for one that ends otherwise than well."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise self.failed(f"did not stop within {STOP_S:g} s") from None
        if code != 0:
            raise self.failed(f"ended with exit code {code}")


@contextmanager
def running(name: str, log: Path, *module: str | Path) -> Iterator[Running]:
    """`python -m MODULE ARGUMENTS`, stopped when the block ends well, and killed when it doesn't."""
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", *map(str, module)], stdout=stream, stderr=stream)
    try:
        here = Running(name, log, process)
        yield here
        here.stop()
    finally:
        process.kill()
        process.wait()


def address_in(file: Path, process: Running) -> str:
    """What a process that serves writes into its ready file."""
    process.until(lambda: file.exists() and file.read_text(encoding="utf-8").endswith("\n"))
    return file.read_text(encoding="utf-8").strip()


def command(*module: str | Path, fine: Sequence[int] = (0,)) -> str:
    """What `python -m MODULE ARGUMENTS` prints. Raises Failed for an exit code that isn't among the fine ones."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, module)],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
    )
    if done.returncode not in fine:
        raise Failed(f"{' '.join(map(str, module))} ended with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip()
