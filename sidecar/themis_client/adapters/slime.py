"""slime and miles: a reward function for `--custom-rm-path`, alone or with `--group-rm`.

    --custom-rm-path themis_client.adapters.slime.reward

Settings come from the environment of the rollout's process: see themis_client.adapters.by_environment. Labels are the
judge's references. With `--reward-key NAME` a sample's reward is a dictionary that has the reward under that name, and
beside it the scores, the judge versions and the status; without it, the number alone. A sample without a score: the
function raises, which ends the rollout, or the reward is the number that `on_failure` names. A group is scored in one
call; samples that come one by one meet in the server's batches.

Read from slime 0.3.1 and miles 0.1.0. Tests call it as these do; their own reward hubs were run with it by hand, a
training was not.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from themis_chat.templates import Prompt, Template
from themis_client.adapters.by_environment import entry_for
from themis_client.adapters.reward import NoReward
from themis_client.adapters.rewarder import Read
from themis_client.adapters.sample import Sample, reference_of, sample
from themis_client.adapters.settings import Thinking
from themis_client.adapters.templated import opened, turns
from themis_client.adapters.unmasked import Trainer, described, read, settled
from themis_client.content import FinishReason
from themis_client.errors import InvalidItem

FINISHES = {"completed": FinishReason.STOP, "truncated": FinishReason.LENGTH, "pending": FinishReason.UNSPECIFIED}
"""Of slime's statuses; the others have no whole response."""


async def reward(args: Any, samples: Any, **_: Any) -> Any:
    """The reward of a sample, or of each in a list of them, in order. Awaited on any event loop. Raises ThemisError,
    and ValueError for settings that are wrong."""
    several = samples if isinstance(samples, list) else [samples]
    entry = entry_for(_trainer, os.environ)
    thinking = entry.rewarder.settings.thinking
    batch = [_read(entry.template, thinking, one) for one in several]
    found = await entry.rewarder.outcomes_async(batch) if batch else []
    rewards: list[Any] = list(settled(entry.rewarder, found))
    if names := _names(args):
        rewards = [
            described(entry.rewarder, outcome) | dict.fromkeys(names, value)
            for outcome, value in zip(found, rewards, strict=True)
        ]
    return rewards if isinstance(samples, list) else rewards[0]


def _trainer(_: Template) -> Trainer:
    return Trainer("slime", cut=True, length=True, groups=True)


def _names(args: Any) -> list[str]:
    named = [getattr(args, field, None) for field in ("reward_key", "eval_reward_key")]
    return [name for name in named if name]


def _read(template: Template, thinking: Thinking | None, one: Any) -> Read:
    seen = [kind for kind, value in (one.multimodal_inputs or {}).items() if value is not None]
    if seen:
        return NoReward("UNSUPPORTED", f"the judge would not see what the policy saw: {', '.join(seen)}")
    return read(functools.partial(_sample, template, thinking, one))


def _sample(template: Template, thinking: Thinking | None, one: Any) -> Sample:
    status = one.status.value
    if status not in FINISHES:
        raise InvalidItem("response", f"its generation came to no end: it is {status}")
    prompt = _prompt(template, one.prompt)
    return sample(
        turns(prompt) if isinstance(one.prompt, str) else one.prompt,
        template.response(one.response),
        opened(thinking, prompt),
        completion_tokens=one.response_length,
        finish_reason=FINISHES[status],
        reference=reference_of(one.label),
        group="" if one.group_index is None else str(one.group_index),
    )


def _prompt(template: Template, prompt: str | Sequence[Any]) -> Prompt:
    """slime keeps messages where it applied no chat template, else the string that came of them."""
    return template.prompt(prompt) if isinstance(prompt, str) else Prompt(())
