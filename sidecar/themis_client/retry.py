"""When to try again, and how long to wait before."""

from __future__ import annotations

from dataclasses import dataclass

from themis_client.deadline import Deadline, Runtime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """attempts: tries in all, the first included. Waits are drawn from 0 to min(cap_s, base_s * 2**retry)
    ("full jitter"), so that callers that failed together don't come back together."""

    attempts: int = 10
    base_s: float = 0.2
    cap_s: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.cap_s < self.base_s:
            raise ValueError(f"attempts must be at least 1 and 0 <= base_s <= cap_s: {self}")

    def wait_s(self, attempt: int, pushback_s: float | None, deadline: Deadline, runtime: Runtime) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) failed; None to give up.

        The server's hint is a lower bound; jitter comes on top of it. A negative hint means "do not come back".
        """
        if attempt >= self.attempts or (pushback_s is not None and pushback_s < 0):
            return None
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1))
        wait_s = (pushback_s or 0.0) + runtime.uniform(0.0, ceiling_s)
        return wait_s if wait_s < deadline.remaining_s else None
