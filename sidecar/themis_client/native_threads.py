"""Looks at this process's threads that Python knows nothing of.

gRPC's core shuts down in a thread of its own after the last channel is gone, and says nowhere when it is done; a child
that is forked before then hangs at its first channel (seen with grpcio 1.71 on Linux). This file goes when grpcio
offers to wait for its shutdown.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

TASKS = Path("/proc/self/task")
GRPC_NAMES = ("grpc", "event_engine", "default-executo", "resolver-execut", "lifeguard", "timer_manager")
"""How the threads of gRPC's core begin; Linux keeps 15 characters."""
POLL_S = 0.001


def wait_for_grpc(timeout_s: float) -> bool:
    """Waits until no thread of gRPC's core is left; False if some are. True at once where threads can't be listed."""
    end_s = time.monotonic() + timeout_s
    while any(name.startswith(GRPC_NAMES) for name in _names()):
        if time.monotonic() >= end_s:
            return False
        time.sleep(POLL_S)
    return True


def _names() -> list[str]:
    names = []
    for task in TASKS.glob("*/comm"):
        with contextlib.suppress(OSError):  # it ended just now
            names.append(task.read_text().strip())
    return names
