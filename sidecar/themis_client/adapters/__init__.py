"""Judge rewards for trainers. Each adapter is a module of its own, named after the trainer, and asks the trainer's
environment for nothing that the trainer has not brought itself.

What is common to all: `RewardSettings` says which judges score and how a reward is made of their scores; `Rewarder`
turns samples into `Reward`s. A sample without a score is a `NoReward`, and what becomes of it is `on_failure`: the
call raises ("raise", the default), the reward is None where the trainer knows None ("none"), or it is a number that
the user wrote down. Nothing else ever stands in for a score.
"""

from themis_client.adapters.reading import read_settings, settings_from_environment
from themis_client.adapters.reward import NoReward, Outcome, Reward
from themis_client.adapters.rewarder import Rewarder
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import (
    JudgePart,
    LengthPenalty,
    OnFailure,
    RewardSettings,
    Thinking,
    TruncationPenalty,
)

__all__ = [
    "JudgePart",
    "LengthPenalty",
    "NoReward",
    "OnFailure",
    "Outcome",
    "Reward",
    "RewardSettings",
    "Rewarder",
    "Sample",
    "Thinking",
    "TruncationPenalty",
    "read_settings",
    "settings_from_environment",
]
