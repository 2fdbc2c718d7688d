"""OpenRLHF: this file is the Python file that `--reward.remote_url` takes (`--remote_rm_url` up to 0.9).

    --reward.remote_url "$(python -c 'import themis_client.adapters.openrlhf as file; print(file.__file__)')"

Settings come from the environment of OpenRLHF's workers: see themis_client.adapters.by_environment. Labels are the
judge's references. A sample without a score: the call raises, or the reward is the number that `on_failure` names.
OpenRLHF from 0.10 on catches what a reward function raises, writes it to its log, and stops at the reward that is
missing when the step begins; up to 0.9 the error itself stops the run.

Read from OpenRLHF 0.9.0, 0.10.4 and 0.11.0. Tests load and call it as these do; 0.11.0's own executor was run with it
by hand, a training was not. OpenRLHF runs this file under the name "reward_func" and, up to 0.9, pickles the
function with all that this file defines: so nothing here is more than functions, and state is kept elsewhere.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from themis_chat.templates import Template
from themis_client.adapters.by_environment import entry_for
from themis_client.adapters.reward import Outcome, Reward
from themis_client.adapters.rewarder import Rewarder
from themis_client.adapters.sample import Sample, reference_of
from themis_client.adapters.settings import Thinking
from themis_client.adapters.templated import ends_turns, queried
from themis_client.adapters.unmasked import Trainer, read, settled


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any) -> dict[str, Any]:
    """Scores a batch; called from several threads at once.

    queries: prompts with their responses, special tokens kept. Gives float32 tensors of one number per sample:
    `rewards`; `scores`, in [0, 1], for the dynamic filter; and `extra_logs`, by name. Raises ThemisError, and
    ValueError for settings that are wrong.
    """
    import torch  # OpenRLHF has it; the client does without

    entry = entry_for(_trainer, os.environ)
    thinking = entry.rewarder.settings.thinking
    rows = zip(queries, prompts, labels, strict=True)
    batch = [read(functools.partial(_sample, entry.template, thinking, *row)) for row in rows]
    found = entry.rewarder.outcomes(batch) if batch else []
    tensor = functools.partial(torch.tensor, dtype=torch.float32)
    return {
        "rewards": tensor(settled(entry.rewarder, found)),
        "scores": tensor([_unit(outcome, entry.rewarder) for outcome in found]),
        "extra_logs": {name: tensor(values) for name, values in _figures(found, entry.rewarder).items()},
    }


def _trainer(template: Template) -> Trainer:
    return Trainer("OpenRLHF", cut=ends_turns(template), length=False, groups=False)


def _sample(template: Template, thinking: Thinking | None, query: str, prompt: str, label: Any) -> Sample:
    return queried(template, thinking, query, prompt, reference_of(label))


def _unit(outcome: Outcome, rewarder: Rewarder) -> float:
    """The weighted score before penalties, on a scale from the least to the most that the weights allow; for a number
    that the user wrote down, that number, held to [0, 1]."""
    settings = rewarder.settings
    if not isinstance(outcome, Reward):
        return _held(float(settings.on_failure))
    weights = {part.name: part.weight for part in settings.parts}
    weights |= {f"{part.name}/reasoning": part.reasoning_weight or 0.0 for part in settings.parts}
    least = sum(min(weight, 0.0) for weight in weights.values())
    most = sum(max(weight, 0.0) for weight in weights.values())
    if outcome.named or least == most:
        return _held(outcome.value)
    return (sum(weights[name] * score for name, score in outcome.scores.items()) - least) / (most - least)


def _held(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _figures(found: Sequence[Outcome], rewarder: Rewarder) -> dict[str, list[float]]:
    """Numbers only, which is all that OpenRLHF can log; one that a sample does not have is NaN."""
    rows = [rewarder.metrics([outcome]) for outcome in found]
    return {f"themis/{name}": [row[name] for row in rows] for name in rewarder.metrics([])}
