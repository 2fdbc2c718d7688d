"""Hides vLLM from TRL. Where TRL 1.12 finds a vLLM it imports what vLLM 0.27 had and 0.32, which is in the tests' lock,
has no more; it can go when the lock has a TRL and a vLLM that know each other. Nothing here generates with vLLM.

`python -m tests.trainers.without_vllm MODULE ARGUMENTS...` runs a module that way.
"""

from __future__ import annotations

import runpy
import sys

import trl.import_utils as import_utils


def hide_vllm() -> None:
    """Before TRL's trainers are imported."""
    import_utils.is_vllm_available = _not_there


def _not_there(min_version: str | None = None) -> bool:
    return False


if __name__ == "__main__":
    hide_vllm()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__")
