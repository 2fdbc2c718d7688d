"""Why a text can't be taken apart."""

from __future__ import annotations


class Unreadable(ValueError):
    """where: "prompt", "response" or "query"; character: the position from 0 at which something else was expected.

    The text says what was expected and what to set; it never quotes what was read.
    """

    def __init__(self, where: str, character: int, problem: str) -> None:
        super().__init__(f"{where}, character {character}: {problem}")
        self.where = where
        self.character = character
        self.problem = problem
