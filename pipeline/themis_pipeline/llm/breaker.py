"""A circuit breaker: an endpoint that fails is left alone for a while, then tried with one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["usual", "trial"]

_LONGEST = 32  # times open_s


class Breaker:
    """Opens after `failures_to_open` failures in a row, for open_s, twice as long each time a trial fails. clock:
    monotonic seconds. For one event loop."""

    def __init__(self, failures_to_open: int, open_s: float, clock: Callable[[], float]) -> None:
        self._threshold, self._open_s, self._clock = failures_to_open, open_s, clock
        self._failures = 0
        self._next_open_s = open_s
        self._opened_until_s: float | None = None
        self._paused_until_s = clock()
        self._trying = False

    def closed_for_s(self) -> float:
        """Seconds until a call may try; 0 if one may now. A trial under way counts as one more open_s."""
        if self._opened_until_s is None:
            return 0.0
        if self._trying:
            return self._open_s
        return max(0.0, self._opened_until_s - self._clock())

    def paused_for_s(self) -> float:
        """Seconds for which the endpoint asked to be spared."""
        return max(0.0, self._paused_until_s - self._clock())

    def enter(self) -> Way | None:
        """How a call may go, if it may. Each that went has to say how it ended: while one is a trial, those that were
        under way as the breaker opened say nothing about the time since."""
        if self.closed_for_s() > 0:
            return None
        self._trying = self._opened_until_s is not None
        return "trial" if self._trying else "usual"

    def succeeded(self) -> None:
        self._failures, self._next_open_s = 0, self._open_s
        self._opened_until_s, self._trying = None, False

    def failed(self, way: Way) -> None:
        self._failures += 1
        if way == "trial" or (self._opened_until_s is None and self._failures >= self._threshold):
            self._opened_until_s = self._clock() + self._next_open_s
            self._next_open_s = min(2 * self._next_open_s, _LONGEST * self._open_s)
            self._trying = False

    def left(self, way: Way) -> None:
        """The call ended without saying anything about the endpoint."""
        if way == "trial":
            self._trying = False

    def pause(self, seconds: float) -> None:
        self._paused_until_s = max(self._paused_until_s, self._clock() + seconds)
