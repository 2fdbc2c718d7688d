"""Errors of the judge library."""

from __future__ import annotations

from typing import Literal, TypeAlias


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


OffFormatReason: TypeAlias = Literal["label_mass", "no_label", "cut", "unreadable"]


class OffFormat(JudgeError):
    """What the judge said is no verdict. `reason` is for counting: too little label mass, none of the labels, a text
    that met its length limit, a text that could not be read."""

    def __init__(self, problem: str, reason: OffFormatReason) -> None:
        super().__init__(problem)
        self.reason = reason
