"""Ends the process when something takes longer than it may: some calls of the Kafka client wait for ever on a broker
that is gone, and a process that hangs is the one failure that no supervisor sees."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_CODE = 70
"""The process's exit code, of sysexits' EX_SOFTWARE."""


def end_process(what: str) -> None:
    """Without any clean-up, which could hang as well: what is not committed is done again elsewhere."""
    sys.stderr.write(f"themis-pipeline: {what}; ends\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class Watchdog:
    """One thread for any number of guards; `end` is told what took too long."""

    def __init__(self, end: Callable[[str], None] = end_process, clock: Callable[[], float] = time.monotonic) -> None:
        self._end = end
        self._clock = clock
        self._changed = threading.Condition()
        self._until_s: dict[object, tuple[float, str]] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="themis-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    @contextmanager
    def guard(self, name: str, limit_s: float) -> Iterator[Callable[[], None]]:
        """What is given starts the time anew, for loops."""
        key = object()
        self._set(key, name, limit_s)
        try:
            yield lambda: self._set(key, name, limit_s)
        finally:
            with self._changed:
                del self._until_s[key]

    def _set(self, key: object, name: str, limit_s: float) -> None:
        with self._changed:
            self._until_s[key] = (self._clock() + limit_s, f"{name} took more than {limit_s:g} s")
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._stopped:
                now_s = self._clock()
                late = [text for until_s, text in self._until_s.values() if until_s <= now_s]
                if late:
                    self._end(late[0])
                    return
                next_s = min((until_s for until_s, _ in self._until_s.values()), default=None)
                self._changed.wait(None if next_s is None else next_s - now_s)
