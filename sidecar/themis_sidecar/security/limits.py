"""How much each caller may take: the limits that hold for it, calls in flight, and a bucket of tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from themis_sidecar.config import CallerLimitsConfig
from themis_sidecar.errors import Overloaded
from themis_sidecar.security.tokens import Callers, OwnLimits

BUSY_RETRY_S = 1.0  # how soon a call ends can't be known; a second spreads the retries


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """None: no limit of the caller's own. burst_tokens: what a caller that was quiet may take at once. queue_share: of
    the whole queue's tokens."""

    max_calls: int | None = None
    max_items: int | None = None
    tokens_per_s: float | None = None
    burst_tokens: float = 0.0
    queue_share: float = 1.0


UNLIMITED = CallerLimits()

LimitsOf = Callable[[str], CallerLimits]


class LimitBook:
    """A caller's limits by its name: its own, else everybody's. `callers` gives the file's as they are now."""

    def __init__(self, config: CallerLimitsConfig, callers: Callable[[], Callers] | None) -> None:
        self._config = config
        self._callers = callers

    def of(self, name: str) -> CallerLimits:
        own = self._own(name)
        tokens_per_s = own.tokens_per_s or self._config.tokens_per_s
        return CallerLimits(
            max_calls=own.max_calls or self._config.max_calls,
            max_items=own.max_items or self._config.max_items,
            tokens_per_s=tokens_per_s,
            burst_tokens=(tokens_per_s or 0.0) * self._config.burst_s,
            queue_share=own.queue_share or self._config.queue_share,
        )

    def _own(self, name: str) -> OwnLimits:
        own = None if self._callers is None else self._callers().limits.get(name)
        return OwnLimits() if own is None else own


class CallSlots:
    """Counts calls in flight by caller."""

    def __init__(self, limits_of: LimitsOf) -> None:
        self._limits_of = limits_of
        self._calls: Counter[str] = Counter()

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """One call. Raises Overloaded where the caller has as many as it may."""
        most = self._limits_of(name).max_calls
        if most is not None and self._calls[name] >= most:
            raise Overloaded(f"{name} has {self._calls[name]} calls in flight, as many as it may", BUSY_RETRY_S)
        self._calls[name] += 1
        try:
            yield
        finally:
            self._calls[name] -= 1
            if not self._calls[name]:
                del self._calls[name]


class TokenBucket:
    """Fills with time up to a burst. Work larger than the burst is let through when the bucket is full, and leaves a
    debt: nothing is refused for ever, and the long run keeps the rate."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at_s = clock()
        self._level: float | None = None  # full, whatever that will be

    def wait_s(self, tokens: int, limits: CallerLimits) -> float:
        """How long until so many may be taken: 0 for now."""
        if limits.tokens_per_s is None:
            return 0.0
        missing = min(tokens, limits.burst_tokens) - self._filled(limits.tokens_per_s, limits.burst_tokens)
        return max(0.0, missing / limits.tokens_per_s)

    def take(self, tokens: int, limits: CallerLimits) -> None:
        if limits.tokens_per_s is not None:
            self._level = self._filled(limits.tokens_per_s, limits.burst_tokens) - tokens

    def full(self, limits: CallerLimits) -> bool:
        rate = limits.tokens_per_s
        return rate is None or self._filled(rate, limits.burst_tokens) >= limits.burst_tokens

    def _filled(self, tokens_per_s: float, burst_tokens: float) -> float:
        now_s = self._clock()
        if self._level is None:
            self._level = burst_tokens
        self._level = min(burst_tokens, self._level + (now_s - self._at_s) * tokens_per_s)
        self._at_s = now_s
        return self._level
