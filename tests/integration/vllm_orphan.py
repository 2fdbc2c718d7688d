"""A process with a spawned child that watches it as vLLM's engine process does; prints the child's id."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

from themis_judge.engines.vllm.orphan import ASKED, end_with_parent


def child() -> None:
    end_with_parent()
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


def main() -> None:
    os.environ[ASKED] = "1"
    multiprocessing.get_context("spawn").Process(target=child).start()


if __name__ == "__main__":
    main()
