"""A rewarder for the ranks of one job: they use one judge version, and where one has no rewards all of them raise."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from themis_client.adapters.errors import RanksLost
from themis_client.adapters.ranks import Ranks
from themis_client.adapters.reward import Outcome
from themis_client.adapters.rewarder import Read, Rewarder
from themis_client.adapters.run_version import Pinned
from themis_client.adapters.settings import RewardSettings

Rewards = list[float | None]


class JointRewarder:
    """Outside a distributed job it is a Rewarder. `read` is called within, so that all ranks know of its errors.
    name: of the reward function, the same on all ranks."""

    def __init__(self, settings: RewardSettings, name: str) -> None:
        self.rewarder = Rewarder(settings)
        self._ranks = Ranks(name, settings.for_ranks_s)
        self._agreed = False

    @property
    def settings(self) -> RewardSettings:
        return self.rewarder.settings

    def rewards(self, read: Callable[[], Sequence[Read]]) -> tuple[list[Outcome], Rewards]:
        """What became of each sample, and what the trainer gets for it. Raises ThemisError, on all ranks together."""
        with self._together():
            self._pin()
            outcomes = self.rewarder.outcomes(read())
            return outcomes, self.rewarder.settled(outcomes)

    async def rewards_async(self, read: Callable[[], Sequence[Read]]) -> tuple[list[Outcome], Rewards]:
        """The same, awaited on any event loop."""
        async with self._together_async():
            await asyncio.to_thread(self._pin)
            outcomes = await self.rewarder.outcomes_async(read())
            return outcomes, self.rewarder.settled(outcomes)

    def _pin(self) -> None:
        """All ranks use what rank 0 has or finds, so that a group that is spread over them has one judge. Whatever a
        rank pinned before there was a job gives way."""
        judges = self.rewarder.judges
        if self._agreed or judges.fixed or not self._ranks.together:
            return

        def find() -> str:
            judges.pin()
            return json.dumps(judges.pins)

        told = json.loads(self._ranks.shared("judge versions", find))
        judges.take({target: Pinned(*pin) for target, pin in told.items()})
        self._agreed = True

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            with contextlib.suppress(RanksLost):  # what went wrong here says more
                self._ranks.agree(error)
            raise
        self._ranks.agree(None)

    @contextlib.asynccontextmanager
    async def _together_async(self) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            with contextlib.suppress(RanksLost):
                await asyncio.to_thread(self._ranks.agree, error)
            raise
        await asyncio.to_thread(self._ranks.agree, None)
