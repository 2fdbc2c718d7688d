"""How fast work gets done, measured while there is some."""

from __future__ import annotations

from collections.abc import Callable


class Throughput:
    """Tokens per second over busy time, as a mean whose weights halve every `half_life_s` busy seconds."""

    def __init__(self, clock: Callable[[], float], half_life_s: float = 10.0) -> None:
        self._clock = clock
        self._half_life_s = half_life_s
        self._since_s = clock()
        self._busy_s = 0.0
        self._tokens = 0.0

    def passed(self, busy: bool) -> None:
        """Accounts for the time since the last call of this method: busy or idle throughout."""
        now = self._clock()
        elapsed_s, self._since_s = now - self._since_s, now
        if busy and elapsed_s > 0:
            fade = 0.5 ** (elapsed_s / self._half_life_s)
            self._busy_s = self._busy_s * fade + elapsed_s
            self._tokens *= fade

    def done(self, tokens: int) -> None:
        self._tokens += tokens

    @property
    def tokens_per_s(self) -> float | None:
        """None before anything was measured."""
        return self._tokens / self._busy_s if self._busy_s > 0 and self._tokens > 0 else None
