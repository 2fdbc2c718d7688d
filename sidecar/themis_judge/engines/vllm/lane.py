"""Whose work a request is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Lane:
    """salt: keeps the cached prefixes of other weights apart. adapter: vLLM's request for it. priority: lower goes
    first."""

    salt: str
    adapter: Any = None
    priority: int = 0
