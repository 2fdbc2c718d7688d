"""Samples in, rewards out: asks all judges of the settings at the same time, and composes what they say."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Any, TypeAlias

from themis_client.adapters.composing import Judged, before_judging, compose, metrics
from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.judges import Judges
from themis_client.adapters.reward import NoReward, Outcome, Reward
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import JudgePart, RewardSettings
from themis_client.client import Client
from themis_client.errors import DeadlineExceeded, ThemisError
from themis_client.failure import Failure
from themis_client.items import Item
from themis_client.loop import PROCESS_LOOP
from themis_client.options import CompareOptions
from themis_client.rpc_errors import ITEM_STATUSES, concerns_items
from themis_client.session import GRACE_S
from themis_client.tournament import StandingOrFailure, Tournament

Read: TypeAlias = Sample | NoReward
"""A completion, or why it can't be read."""


class Rewarder:
    """Safe to share between threads, to pickle into another process, and to use on both sides of a fork. The judges'
    versions are pinned at the first call, and go with it."""

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings
        self.judges = Judges(settings)

    def outcomes(self, samples: Sequence[Read]) -> list[Outcome]:
        """What became of each sample, in order. Raises ThemisError where all samples are concerned and no retry can
        help: wrong options, an unknown version, credentials that are not accepted."""
        self.judges.pin()
        call = PROCESS_LOOP.submit(functools.partial(self._judge, samples))
        limit_s = self.settings.timeout_s + GRACE_S
        try:
            return call.result(limit_s)
        except FutureTimeoutError as error:
            raise DeadlineExceeded(f"no scores within {limit_s:g} s: the client's own thread is stuck") from error
        finally:
            call.cancel()

    async def outcomes_async(self, samples: Sequence[Read]) -> list[Outcome]:
        """outcomes(), awaited on any event loop."""
        await asyncio.to_thread(self.judges.pin)
        return await asyncio.wrap_future(PROCESS_LOOP.submit(functools.partial(self._judge, samples)))

    def settled(self, outcomes: Sequence[Outcome]) -> list[float | None]:
        """The rewards as `on_failure` has them. Raises RewardMissing."""
        named = self.settings.on_failure
        if named == "raise":
            missing = [(place, outcome) for place, outcome in enumerate(outcomes) if isinstance(outcome, NoReward)]
            if missing:
                place, first = missing[0]
                raise RewardMissing(
                    f"{len(missing)} of {len(outcomes)} completions have no reward; the first, number {place}: {first}",
                    missing,
                )
        instead = None if isinstance(named, str) else float(named)
        return [outcome.value if isinstance(outcome, Reward) else instead for outcome in outcomes]

    def metrics(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Figures for a trainer's log: scores by part, shares of what failed, was cut or clipped, penalties, scale."""
        return metrics(outcomes, self.settings)

    async def _judge(self, samples: Sequence[Read]) -> list[Outcome]:
        settled = [one if isinstance(one, NoReward) else before_judging(one, self.settings) for one in samples]
        judged = [
            one for one, outcome in zip(samples, settled, strict=True) if outcome is None and isinstance(one, Sample)
        ]
        by_part = dict(zip(self._names, await self._all_parts(judged), strict=True))
        composed = iter(
            compose(one, {name: results[place] for name, results in by_part.items()}, self.settings)
            for place, one in enumerate(judged)
        )
        outcomes = [next(composed) if outcome is None else outcome for outcome in settled]
        return [
            replace(outcome, truncated=True) if isinstance(one, Sample) and one.truncated else outcome
            for one, outcome in zip(samples, outcomes, strict=True)
        ]

    @property
    def _names(self) -> list[str]:
        return [part.name for part in self.settings.parts]

    async def _all_parts(self, samples: Sequence[Sample]) -> list[Sequence[Judged]]:
        tasks = [asyncio.ensure_future(self._part(part, samples)) for part in self.settings.parts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _part(self, part: JudgePart, samples: Sequence[Sample]) -> Sequence[Judged]:
        items = [_asked(sample.item, part, str(place)) for place, sample in enumerate(samples)]
        client, timeout_s = self.judges.of(part), self.settings.timeout_s
        try:
            if part.tournament is not None:
                return await _compared(client, items, part, part.tournament, timeout_s)
            return await client.score_async(items, options=part.options, timeout_s=timeout_s)
        except ThemisError as error:
            if not concerns_items(error):
                raise
            return [Failure(ITEM_STATUSES[type(error)], str(error))] * len(items)

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "judges": self.judges}


def _asked(item: Item, part: JudgePart, key: str) -> Item:
    return Item(
        item.messages,
        item.response,
        reference=item.reference,
        scenario=part.scenario or item.scenario,
        rubric=part.rubric or item.rubric,
        key=key,
        group=item.group,
    )


async def _compared(
    client: Client, items: Sequence[Item], part: JudgePart, tournament: Tournament, timeout_s: float
) -> Sequence[Judged]:
    """The completions of each prompt among themselves; the standings in the order of the items."""
    groups: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item.group or item.messages, []).append(place)
    options = CompareOptions(reasoning_policy=part.options.reasoning_policy)
    told = await client.tournament_async(
        [[items[place] for place in places] for places in groups.values()],
        tournament,
        options=options,
        timeout_s=timeout_s,
    )
    standings: dict[int, StandingOrFailure] = {}
    for places, group in zip(groups.values(), told, strict=True):
        standings |= zip(places, group, strict=True)
    return [standings[place] for place in range(len(items))]
