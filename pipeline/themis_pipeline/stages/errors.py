"""What can go wrong in a stage's own work."""

from __future__ import annotations


class StageError(Exception):
    """The base of this package's errors."""


class BadData(StageError):
    """A data file does not say what it should; the text names file and field."""


class BadSetting(StageError):
    """A stage can't work with what it was given at its start."""


class Unparsable(StageError):
    """A model's answer does not have the form that was asked for. `code` says what is wrong; the answer itself is
    in no error text."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the answer can't be read: {code}")
        self.code = code
