"""Who calls: a name for logs and limits, and a role that says what may be called."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Role(enum.IntEnum):
    """Each may do what those before it may."""

    SCORE = 1
    ADMIN = 2

    @classmethod
    def named(cls, name: str) -> Role:
        return cls[name.upper()]


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    role: Role


ANONYMOUS = "anonymous"
NOBODY = Caller(ANONYMOUS, Role.SCORE)
