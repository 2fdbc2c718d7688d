"""Memory that one pass frees is there for the next: in a process of its own, since the setting is the process's."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import resource, sys
from themis_judge.engines.transformers.allocator import keep_freed_memory
import torch
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def layer():
    blocks = [torch.ones(1 << 20) for _ in range(8)]

layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    layer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


# Without it glibc raises its threshold by itself as blocks are freed, and how many faults are left to avoid depends on
# what else lies in the heap.
FIXED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


def _faults(kind: str) -> int:
    command = [sys.executable, "-c", PROGRAM, kind]
    found = subprocess.run(command, env=os.environ | FIXED, capture_output=True, text=True, check=True)
    return int(found.stdout)


def test_freed_memory_is_used_again_without_page_faults() -> None:
    assert _faults("kept") * 10 < _faults("returned")
