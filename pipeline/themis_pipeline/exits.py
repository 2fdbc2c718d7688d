"""Exit codes of `themis-pipeline`."""

OK = 0
DIFFERENT = 1
"""Done, and something isn't as it should be."""
BAD_INPUT = 2
"""Wrong usage or settings, or nothing of that name."""
NO_BROKER = 3
"""The brokers can't be reached, or refused."""
FAILED = 4
"""A stage failed."""
