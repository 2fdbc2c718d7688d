"""What adapters raise."""

from __future__ import annotations

from collections.abc import Sequence

from themis_client.adapters.reward import NoReward
from themis_client.errors import ThemisError


class RewardMissing(ThemisError):
    """Samples have no reward, and `on_failure` says to raise. `missing` has each one's position and reason."""

    def __init__(self, message: str, missing: Sequence[tuple[int, NoReward]] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)

    def __reduce__(self) -> tuple[type[RewardMissing], tuple[str, tuple[tuple[int, NoReward], ...]]]:
        return type(self), (str(self), self.missing)


class RankFailed(ThemisError):
    """Another rank of the job has no rewards; this one stops with it."""


class RanksLost(ThemisError):
    """The other ranks did not come to the end of this call in time."""
