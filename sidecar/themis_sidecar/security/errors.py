"""What is wrong with the files that security rests on."""

from __future__ import annotations


class SecurityError(Exception):
    """A file of certificates or callers can't be used. The text names the file and no secret."""
