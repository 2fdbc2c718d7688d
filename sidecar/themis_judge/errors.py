"""Errors of the judge library."""

from __future__ import annotations


class JudgeError(Exception):
    """Base of what the judge raises."""


class InvalidItem(JudgeError):
    """An item can't be judged as it stands. `field` is a path from the item ("messages[0].role")."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnsupportedItem(InvalidItem):
    """Well-formed, but beyond this judge."""


class BadScenario(JudgeError):
    """A scenario file is malformed."""


class OffFormat(JudgeError):
    """What the judge said is no verdict."""
