"""vLLM's engine process ends with the process that made it, however that one ended.

A vLLM plugin (see the entry points in pyproject.toml), so that it runs in that process: nothing in vLLM notices that
the front end was killed, and what it holds (a GPU's memory) would be gone until somebody finds it. Its workers end
with it by themselves. Can go when vLLM's engine process watches its parent.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

ASKED = "THEMIS_VLLM_ENDS_WITH_PARENT"


def end_with_parent() -> None:
    """Watches from a thread. Does nothing in processes that nobody spawned, and where it wasn't asked for."""
    parent = multiprocessing.parent_process()
    if parent is None or os.environ.get(ASKED) != "1":
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), name="themis-orphan", daemon=True).start()
