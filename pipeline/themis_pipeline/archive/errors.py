"""What goes wrong with the archive. Beside these, everything may raise the store's StoreUnavailable."""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of what the archive raises. The texts name places, never what a record says."""


class CorruptArchive(ArchiveError):
    """A manifest or a data file is not what was written, or manifests don't follow one another."""


class Overtaken(ArchiveError):
    """Another writer archived these offsets first: read the position again, and go on from there."""


class Refused(ArchiveError):
    """What was asked for contradicts itself: offsets outside the range that is written, a record without an id."""
