"""What goes wrong between us and the brokers, for commands that people call."""

from __future__ import annotations


class BrokerError(Exception):
    """The brokers can't be reached, or refused; the text says which, and holds nothing secret."""
