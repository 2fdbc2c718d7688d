"""What can be wrong with an event; no text of a record stands in any of these."""

from __future__ import annotations

from enum import Enum


class Defect(str, Enum):
    """What is wrong with a record that can't be read."""

    TOMBSTONE = "tombstone"
    """It has no value."""
    OVERSIZE = "oversize"
    """It is larger than its reader takes."""
    HEADERS = "headers"
    """Its headers don't say what it is, or say it twice, or in no text."""
    MESSAGE = "message"
    """It is a message that isn't expected here."""
    VERSION = "version"
    """Its meaning is newer than this reader."""
    BYTES = "bytes"
    """Its value is no such message."""
    JSON = "json"
    """Its value is no JSON of such a message."""


class EventError(Exception):
    """The base of what goes wrong with events."""


class Malformed(EventError):
    """A record that can't be read, now or later, by this reader."""

    def __init__(self, defect: Defect, detail: str) -> None:
        super().__init__(detail)
        self.defect = defect


class TooLarge(EventError):
    """An event that is larger than its topic takes."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"an event of {size_bytes} bytes is larger than {max_bytes}")
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
