"""TRL: reward functions for GRPO, RLOO, AsyncGRPO and OnlineDPO.

    GRPOTrainer(model=..., reward_funcs=judge_reward("judge:50051", reference="answer"), ...)

A completion without a score: the call raises on all ranks ("raise"); it is None ("none"), which GRPO and RLOO mask
where no other reward function has a value for it, and count as 0 where one has: combine functions with
trl_composite.composite_reward there; or it is the number that the user names. OnlineDPO counts None as 0, so that it
is refused there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from themis_client.adapters.joint import JointRewarder, Rewards
from themis_client.adapters.reward import NoReward, Outcome
from themis_client.adapters.rewarder import Read
from themis_client.adapters.sample import reference_of, sample
from themis_client.adapters.settings import RewardSettings
from themis_client.content import FinishReason
from themis_client.errors import InvalidItem

LogExtra = Callable[[str, list[Any]], None]
LogMetric = Callable[[str, float], None]


class TrlReward:
    """A reward function as TRL calls it. Picklable. Its name is that of its column and metrics."""

    def __init__(
        self,
        settings: RewardSettings,
        *,
        reference: str | None = None,
        scenario: str | None = None,
        eos_token_ids: Sequence[int] = (),
        name: str = "judge",
    ) -> None:
        if settings.truncated != "judge" and not eos_token_ids:
            raise ValueError("eos_token_ids: needed to see which completions were cut, which `truncated` asks about")
        self.__name__ = name
        self._reference = reference
        self._scenario = scenario
        self._eos = frozenset(eos_token_ids)
        self._joint = JointRewarder(settings, name)

    def __call__(
        self,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> Rewards:
        """One reward per completion, in order. Raises ThemisError, on all ranks together."""
        outcomes, rewards = self._joint.rewards(lambda: self._read(prompts, completions, completion_ids, columns))
        self._log(outcomes, log_extra, log_metric)
        return rewards

    async def rewards_async(
        self,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> Rewards:
        """The same, awaited on any event loop."""
        outcomes, rewards = await self._joint.rewards_async(
            lambda: self._read(prompts, completions, completion_ids, columns)
        )
        self._log(outcomes, log_extra, log_metric)
        return rewards

    # ------------------------------------------------------------------------------------------------------- reading

    def _read(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: dict[str, Any],
    ) -> list[Read]:
        references = _column(columns, self._reference, len(prompts), "reference")
        scenarios = _column(columns, self._scenario, len(prompts), "scenario")
        ids = [None] * len(prompts) if completion_ids is None else completion_ids
        return [self._sample(*row) for row in zip(prompts, completions, ids, references, scenarios, strict=True)]

    def _sample(self, prompt: Any, completion: Any, ids: Sequence[int] | None, reference: Any, scenario: Any) -> Read:
        try:
            return sample(
                prompt,
                completion,
                self._joint.settings.thinking,
                completion_tokens=None if ids is None else len(ids),
                finish_reason=self._finish(ids),
                reference=reference_of(reference),
                scenario=scenario or "",
            )
        except InvalidItem as error:
            return NoReward("INVALID", str(error))

    def _finish(self, ids: Sequence[int] | None) -> FinishReason:
        if not self._eos or ids is None:
            return FinishReason.UNSPECIFIED
        return FinishReason.LENGTH if ids and ids[-1] not in self._eos else FinishReason.STOP

    # ------------------------------------------------------------------------------------------------------ logging

    def _log(self, outcomes: Sequence[Outcome], log_extra: LogExtra | None, log_metric: LogMetric | None) -> None:
        """The same names on all ranks, since TRL gathers each of them."""
        name = self.__name__
        if log_metric is not None:
            for metric, value in self._joint.rewarder.metrics(outcomes).items():
                log_metric(f"{name}/{metric}", value)
        if log_extra is not None:
            for column, values in _columns(outcomes, [part.name for part in self._joint.settings.parts]).items():
                log_extra(f"{name}/{column}", values)


def judge_reward(
    settings: RewardSettings | str = RewardSettings(),  # noqa: B008 - frozen
    *,
    reference: str | None = None,
    scenario: str | None = None,
    eos_token_ids: Sequence[int] = (),
    name: str = "judge",
) -> TrlReward:
    """A reward function for GRPO, RLOO and AsyncGRPO.

    settings: or the address of a judge. reference, scenario: columns of the data set. eos_token_ids: the policy's,
    needed where completions that were cut are to be told from others. name: of the reward in TRL's logs.
    """
    made = RewardSettings(target=settings) if isinstance(settings, str) else settings
    return TrlReward(made, reference=reference, scenario=scenario, eos_token_ids=eos_token_ids, name=name)


async def judge(reward: TrlReward, /, **arguments: Any) -> Rewards:
    """What judge_reward_async binds: a plain coroutine function, which TRL recognises as one."""
    return await reward.rewards_async(**arguments)


def judge_reward_async(
    settings: RewardSettings | str = RewardSettings(),  # noqa: B008 - frozen
    *,
    reference: str | None = None,
    scenario: str | None = None,
    eos_token_ids: Sequence[int] = (),
    name: str = "judge",
) -> Callable[..., Coroutine[Any, Any, Rewards]]:
    """judge_reward as a coroutine function: TRL runs it beside its other asynchronous reward functions."""
    reward = judge_reward(settings, reference=reference, scenario=scenario, eos_token_ids=eos_token_ids, name=name)
    function = functools.partial(judge, reward)
    function.__name__ = name  # type: ignore[attr-defined]
    return function


def online_dpo_reward(
    settings: RewardSettings | str = RewardSettings(),  # noqa: B008 - frozen
    *,
    reference: str | None = None,
    scenario: str | None = None,
    eos_token_ids: Sequence[int] = (),
    name: str = "judge",
) -> TrlReward:
    """A reward function for OnlineDPO. Raises ValueError for on_failure "none", which OnlineDPO counts as 0: the two
    completions of a prompt would become a preference that nobody has."""
    made = RewardSettings(target=settings) if isinstance(settings, str) else settings
    if made.on_failure == "none":
        raise ValueError('on_failure: "none" is a reward of 0 to OnlineDPO; use "raise", or name a number')
    return TrlReward(made, reference=reference, scenario=scenario, eos_token_ids=eos_token_ids, name=name)


def _column(columns: dict[str, Any], name: str | None, count: int, setting: str) -> Sequence[Any]:
    if name is None:
        return [None] * count
    if name not in columns:
        raise ValueError(f"{setting}: the data set has no column {name!r}; there are {', '.join(sorted(columns))}")
    values: Sequence[Any] = columns[name]
    return values


def _columns(outcomes: Sequence[Outcome], parts: Sequence[str]) -> dict[str, list[Any]]:
    """What a table of completions shows of each: its status, and its parts' scores and versions."""
    table: dict[str, list[Any]] = {"status": [outcome.status for outcome in outcomes]}
    for part in parts:
        table[f"score/{part}"] = [outcome.scores.get(part) for outcome in outcomes]
        table[f"version/{part}"] = [outcome.versions.get(part, "") for outcome in outcomes]
    return table
