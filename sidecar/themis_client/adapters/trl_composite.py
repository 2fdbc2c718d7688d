"""TRL: several reward functions as one, so that a missing score is never taken for 0.

TRL adds up what its reward functions return and counts None as 0 where another function has a value. This function
returns None for such a completion as a whole, which GRPO and RLOO mask, or raises: OnlineDPO counts None as 0.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.ranks import Ranks
from themis_client.adapters.reward import NoReward

Function: TypeAlias = Callable[..., Any]
Row: TypeAlias = Sequence["float | None"]
Missing: TypeAlias = Literal["none", "raise"]
RANKS_WAIT_S = 900.0


class CompositeReward:
    """A weighted sum. A completion that any function has no value for has None, or the call raises."""

    def __init__(
        self, functions: Sequence[Function], weights: Sequence[float], name: str, missing: Missing, ranks_wait_s: float
    ) -> None:
        self.__name__ = name
        self._missing = missing
        self._functions = tuple(functions)
        self._weights = tuple(weights)
        self._names = [_name(function) for function in functions]
        self._ranks = Ranks(name, ranks_wait_s)

    def __call__(self, **arguments: Any) -> list[float | None]:
        """Raises what the first function that failed raised, on all ranks together."""
        told = [_caught(function, arguments) for function in self._functions]
        return self._settled(told, arguments)

    async def rewards_async(self, **arguments: Any) -> list[float | None]:
        """The same; coroutine functions run side by side, and the others in threads."""
        told = await asyncio.gather(*(_awaited(function, arguments) for function in self._functions))
        return await asyncio.to_thread(self._settled, told, arguments)

    def _settled(self, told: Sequence[Any], arguments: dict[str, Any]) -> list[float | None]:
        # All functions were called, whichever failed: the judge's own meeting of ranks is reached by every rank.
        error = next((one for one in told if isinstance(one, Exception)), None)
        rows: list[Row] = []
        rewards: list[float | None] = []
        if error is None:
            error = self._wrong(told, len(arguments["completions"]))
        if error is None:
            rows = list(zip(*told, strict=True))
            rewards = [self._sum(row) for row in rows]
            error = self._unbearable(rewards)
        self._ranks.agree(error)
        if error is not None:
            raise error
        self._log(rows, rewards, arguments.get("log_metric"))
        return rewards

    def _wrong(self, told: Sequence[Any], count: int) -> ValueError | None:
        for name, values in zip(self._names, told, strict=True):
            if len(values) != count:
                return ValueError(f"{name} returned {len(values)} rewards for {count} completions")
        return None

    def _unbearable(self, rewards: Sequence[float | None]) -> RewardMissing | None:
        missing = [
            (place, NoReward("MISSING", f"one of {', '.join(self._names)} has no value"))
            for place, reward in enumerate(rewards)
            if reward is None and self._missing == "raise"
        ]
        if not missing:
            return None
        return RewardMissing(f"{len(missing)} of {len(rewards)} completions have no reward: {missing[0][1]}", missing)

    def _sum(self, row: Row) -> float | None:
        total = 0.0
        for weight, value in zip(self._weights, row, strict=True):
            if value is None or math.isnan(value):
                return None
            total += weight * float(value)
        return total

    def _log(self, rows: Sequence[Row], rewards: Sequence[float | None], log_metric: Any) -> None:
        if log_metric is None:
            return
        for place, name in enumerate(self._names):
            log_metric(f"{self.__name__}/{name}", _mean([row[place] for row in rows]))
        log_metric(f"{self.__name__}/missing_share", _mean([float(reward is None) for reward in rewards]))


def composite_reward(
    functions: Sequence[Function],
    weights: Sequence[float] | None = None,
    name: str = "composite",
    missing: Missing = "none",
    ranks_wait_s: float = RANKS_WAIT_S,
) -> CompositeReward:
    """functions: TRL reward functions, judge_reward's among them, none of them a coroutine function, each with a name
    of its own. missing: "raise" for OnlineDPO. ranks_wait_s: how long a rank waits for the others at the end of a
    call; longer than any function takes."""
    if any(inspect.iscoroutinefunction(function) for function in functions):
        raise ValueError("functions: a coroutine function is among them; use composite_reward_async")
    return CompositeReward(functions, _checked(functions, weights), name, missing, ranks_wait_s)


async def composite(reward: CompositeReward, /, **arguments: Any) -> list[float | None]:
    """What composite_reward_async binds."""
    return await reward.rewards_async(**arguments)


def composite_reward_async(
    functions: Sequence[Function],
    weights: Sequence[float] | None = None,
    name: str = "composite",
    missing: Missing = "none",
    ranks_wait_s: float = RANKS_WAIT_S,
) -> Callable[..., Coroutine[Any, Any, list[float | None]]]:
    """composite_reward as a coroutine function; its functions may be of either kind."""
    made = CompositeReward(functions, _checked(functions, weights), name, missing, ranks_wait_s)
    function = partial(composite, made)
    function.__name__ = name  # type: ignore[attr-defined]
    return function


def _checked(functions: Sequence[Function], weights: Sequence[float] | None) -> Sequence[float]:
    chosen = [1.0] * len(functions) if weights is None else list(weights)
    if not functions or len(chosen) != len(functions):
        raise ValueError("functions: at least one is needed, and weights, if any, for each")
    names = [_name(function) for function in functions]
    if len(set(names)) < len(names):
        raise ValueError(f"functions: {', '.join(names)}: two have the same name, and TRL would mix their logs")
    return chosen


def _caught(function: Function, arguments: dict[str, Any]) -> Any:
    try:
        return list(function(**arguments))
    except Exception as error:  # noqa: BLE001 - raised once all ranks know of it
        return error


async def _awaited(function: Function, arguments: dict[str, Any]) -> Any:
    if not inspect.iscoroutinefunction(function):
        return await asyncio.to_thread(_caught, function, arguments)
    try:
        return list(await function(**arguments))
    except Exception as error:  # noqa: BLE001 - raised once all ranks know of it
        return error


def _name(function: Function) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
