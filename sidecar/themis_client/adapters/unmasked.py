"""What trainers have in common that can't leave a sample out: each of them is given a number, or the call raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from themis_chat.templates import Unreadable
from themis_client.adapters.reward import NoReward, Outcome
from themis_client.adapters.rewarder import Read, Rewarder
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import RewardSettings
from themis_client.errors import InvalidItem


@dataclass(frozen=True, slots=True)
class Trainer:
    """What a trainer does not tell, its adapter can't act on. cut: whether it says which completions were cut at their
    token limit; length: how many tokens they have; groups: whether the completions of a prompt come together."""

    name: str
    cut: bool
    length: bool
    groups: bool

    def fit(self, settings: RewardSettings) -> RewardSettings:
        """The settings, if this trainer can have them all. Raises ValueError before anything is trained."""
        if settings.on_failure == "none":
            raise ValueError(f'on_failure: {self.name} has no way to leave a sample out; use "raise", or name a number')
        if settings.truncated != "judge" and not self.cut:
            raise ValueError(f"truncated: {self.name} does not say here which completions were cut")
        if settings.length is not None and not self.length:
            raise ValueError(f"length: {self.name} does not say here how long completions are")
        if not self.groups and any(part.tournament is not None for part in settings.parts):
            raise ValueError(f"parts: {self.name} does not give the completions of a prompt together: no tournament")
        return settings


def read(make: Callable[[], Sample]) -> Read:
    """The sample, or why it can't be judged."""
    try:
        return make()
    except (InvalidItem, Unreadable) as error:
        return NoReward("INVALID", str(error))


def settled(rewarder: Rewarder, found: Sequence[Outcome]) -> list[float]:
    """The numbers, after settings that went through `Trainer.fit`. Raises RewardMissing."""
    return [reward for reward in rewarder.settled(found) if reward is not None]


def described(rewarder: Rewarder, outcome: Outcome) -> dict[str, Any]:
    """What a trainer can log of one sample: the figures of Rewarder.metrics(), its status, and the judge versions that
    scored it. The names depend on the settings alone; a figure that it does not have is NaN, a version empty."""
    versions = {f"version/{part.name}": outcome.versions.get(part.name, "") for part in rewarder.settings.parts}
    return {**rewarder.metrics([outcome]), **versions, "status": outcome.status}
