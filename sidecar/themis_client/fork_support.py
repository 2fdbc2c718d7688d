"""Turns off gRPC's own handling of forks; imported before gRPC, which reads the variable when it is imported.

This package handles forks itself (see loop.py). After a fork while calls are under way, gRPC's handlers start a thread
in the child that can take the whole process down, also one that never uses gRPC (seen with grpcio 1.85 on Linux: one
such child of twelve on a busy machine). A user who sets the variable is let be, and so is a process that imported
gRPC before this package.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_ENABLE_FORK_SUPPORT"

os.environ.setdefault(VARIABLE, "0")
