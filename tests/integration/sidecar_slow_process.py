"""The server of sidecar_process.py, whose judge takes 20 ms for each item, so that there is always work to lose."""

from __future__ import annotations

import asyncio

from tests.integration.sidecar_process import SignalledJudge, main
from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_judge.items import Item, Options, Result

ITEM_S = 0.02


class SlowJudge(SignalledJudge):
    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        await asyncio.sleep(ITEM_S)
        return await super().score_one(item, options, deadline)


if __name__ == "__main__":
    main(SlowJudge())
