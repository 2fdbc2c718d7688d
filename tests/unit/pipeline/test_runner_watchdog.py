"""The watchdog ends a process for what is late, and for nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading

from themis_pipeline.runner.watchdog import EXIT_CODE, Watchdog


def test_what_is_late_is_told() -> None:
    told: list[str] = []
    barked = threading.Event()

    def end(what: str) -> None:
        told.append(what)
        barked.set()

    watchdog = Watchdog(end)
    watchdog.start()
    with watchdog.guard("a commit", 0.01):
        assert barked.wait(30)
    assert told == ["a commit took more than 0.01 s"]
    watchdog.stop()


def test_what_ends_in_time_or_begins_anew_is_not() -> None:
    now_s, told = [0.0], list[str]()
    watchdog = Watchdog(told.append, lambda: now_s[0])
    watchdog.start()
    with watchdog.guard("a poll", 10) as again:
        for _ in range(5):
            now_s[0] += 9
            again()
    now_s[0] += 100
    watchdog.stop()
    assert not told


def test_the_process_ends_though_a_thread_hangs() -> None:
    code = (
        "import threading\n"
        "from themis_pipeline.runner.watchdog import Watchdog\n"
        "one = Watchdog()\n"
        "one.start()\n"
        "with one.guard('a commit', 0.05):\n"
        "    threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == EXIT_CODE
    assert b"a commit took more than 0.05 s" in done.stderr
