"""A trainer's batch as adapters judge it: some samples may not be readable, and these have no reward either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from themis_chat.templates import Unreadable
from themis_client.adapters.reward import NoReward, Outcome, Reward
from themis_client.adapters.rewarder import Rewarder
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import RewardSettings
from themis_client.errors import InvalidItem

Read: TypeAlias = Sample | NoReward


@dataclass(frozen=True, slots=True)
class Trainer:
    """What a trainer does not tell about a completion, its adapter can't act on. cut: whether it says which ones were
    cut at their token limit; length: how many tokens they have."""

    name: str
    cut: bool
    length: bool

    def fit(self, settings: RewardSettings) -> RewardSettings:
        """The settings, if all of them can be had from this trainer, which has no mask for a missing reward. Raises
        ValueError before anything is trained."""
        if settings.on_failure == "none":
            raise ValueError(f'on_failure: {self.name} has no way to leave a sample out; use "raise", or name a number')
        if settings.truncated != "judge" and not self.cut:
            raise ValueError(f"truncated: {self.name} does not say here which completions were cut")
        if settings.length is not None and not self.length:
            raise ValueError(f"length: {self.name} does not say here how long completions are")
        return settings


def read(make: Callable[[], Sample]) -> Read:
    """The sample, or why it can't be judged."""
    try:
        return make()
    except (InvalidItem, Unreadable) as error:
        return NoReward("INVALID", str(error))


def outcomes(rewarder: Rewarder, batch: Sequence[Read]) -> list[Outcome]:
    """What became of each, in order. Raises what Rewarder.outcomes raises."""
    samples = _samples(batch)
    return _merged(batch, rewarder.outcomes(samples) if samples else [])


async def outcomes_async(rewarder: Rewarder, batch: Sequence[Read]) -> list[Outcome]:
    """outcomes(), awaited on any event loop."""
    samples = _samples(batch)
    return _merged(batch, await rewarder.outcomes_async(samples) if samples else [])


def settled(rewarder: Rewarder, found: Sequence[Outcome]) -> list[float]:
    """The numbers for a trainer without a mask, whose settings went through `Trainer.fit`. Raises RewardMissing."""
    rewards = rewarder.settled(found)
    return [reward for reward in rewards if reward is not None]


def described(rewarder: Rewarder, outcome: Outcome) -> dict[str, Any]:
    """What a trainer can log of one sample: the figures of Rewarder.metrics(), its status, and the judge versions that
    scored it. The names depend on the settings alone; a figure that it does not have is NaN, a version empty."""
    told: dict[str, Any] = dict(rewarder.metrics([outcome]))
    versions = outcome.versions if isinstance(outcome, Reward) else {}
    told |= {f"version/{part.name}": versions.get(part.name, "") for part in rewarder.settings.parts}
    return told | {"status": status(outcome)}


def status(outcome: Outcome) -> str:
    return outcome.status if isinstance(outcome, NoReward) else outcome.named or "OK"


def _samples(batch: Sequence[Read]) -> list[Sample]:
    return [one for one in batch if isinstance(one, Sample)]


def _merged(batch: Sequence[Read], judged: Sequence[Outcome]) -> list[Outcome]:
    rest = iter(judged)
    return [one if isinstance(one, NoReward) else next(rest) for one in batch]
