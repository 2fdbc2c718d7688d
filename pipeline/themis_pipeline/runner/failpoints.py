"""Where a test may stop, break or kill what commits: by name, through an object that is passed in."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Step(str, Enum):
    """Each is reached before what it names is done, but COMMITTED."""

    REVOKE = "revoke"
    """What is finished is committed before the partitions go."""
    BEGIN = "begin"
    SEND = "send"
    FLUSH = "flush"
    ACKNOWLEDGED = "acknowledged"
    OFFSETS = "offsets"
    COMMIT = "commit"
    COMMITTED = "committed"


class Failpoints(Protocol):
    def reach(self, step: Step) -> None: ...


class NoFailpoints:
    def reach(self, step: Step) -> None:
        """Goes on."""
