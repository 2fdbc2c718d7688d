"""Why a call as a whole fails. The interceptor turns each into a gRPC status, and nothing else does."""

from __future__ import annotations


class CallError(Exception):
    """Base of what ends a call. The text goes to the caller."""


class InvalidCall(CallError):
    """The request can't be served as it stands. `field` is a path from the request; empty where none is to blame."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class TooLarge(CallError):
    """What was sent is longer than it may be."""


class UnknownVersion(CallError):
    """No resident judge has the id asked for."""


class FailedPrecondition(CallError):
    """The call can't be served in the state that things are in; the text says what has to change first."""


class Conflict(CallError):
    """Others changed what the call was about to change, again and again."""


class Overloaded(CallError):
    """There is no room now."""

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class Unavailable(CallError):
    """The server is loading, draining or broken."""


class CallerGone(CallError):
    """Nobody is there to read the answer."""


class CallTimeout(CallError):
    """The call's time is over."""


class Unauthenticated(CallError):
    """Nobody is known to be calling. The text never quotes what was sent."""


class Forbidden(CallError):
    """The caller is known, and may not."""
