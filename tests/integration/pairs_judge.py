"""A judge that likes long responses, for tests of what is made of its verdicts; run as a module it is a server."""

from __future__ import annotations

import os

from tests.integration.sidecar_fakes import USAGE
from tests.integration.sidecar_process import SignalledJudge, main
from themis_judge.engines.base import NO_DEADLINE, Deadline
from themis_judge.items import (
    CompareResult,
    Comparison,
    Distribution,
    Item,
    Options,
    Orders,
    Preference,
    ReasoningPolicy,
    Response,
    Result,
    Status,
    Text,
    Verdict,
)

FULL = 20
"""Characters of the best response."""


class LengthJudge(SignalledJudge):
    """A response's score is its share of twenty characters, and the longer one is preferred the surer the more they
    differ. A response that is a status in capitals gets that status, and so does its comparison, unless `healed`."""

    def __init__(self, healed: bool = False) -> None:
        super().__init__()
        self.compared: list[Orders] = []
        self._healed = healed

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        status, error, field = await self._handle(item.key, deadline)
        bad = self._bad(item.response)
        if status is not Status.OK or bad is not None:
            return Result(
                status=bad or status, error=error or "response: it went wrong", error_field=field or "response"
            )
        score = share(item.response)
        rating = Distribution((1, 2), (1 - score, score), 0.9, 1 + score, 1 + round(score))
        return Result(
            status=Status.OK, verdict=Verdict(rating, score, 0.5), scenario=item.scenario or "math", usage=USAGE
        )

    async def compare_one(
        self,
        comparison: Comparison,
        orders: Orders = Orders.BOTH,
        reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP,
        return_prompt: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> CompareResult:
        await self._handle(comparison.key, deadline)
        self.compared.append(orders)
        sides = {"response_a": comparison.response_a, "response_b": comparison.response_b}
        for name, response in sides.items():
            bad = self._bad(response)
            if bad is not None:
                return CompareResult(status=bad, error=f"{name}: it went wrong", error_field=name)
        a, b = (share(response) for response in sides.values())
        chances = (0.5 + (a - b) / 2, 0.5 - (a - b) / 2, 0.0)
        apart = 0.25 if orders is Orders.BOTH else None
        return CompareResult(
            status=Status.OK, verdict=Preference("A" if a > b else "B", chances, apart, 0.9), scenario="math"
        )

    def _bad(self, response: Response) -> Status | None:
        text = text_of(response)
        return Status[text] if text.isupper() and not self._healed else None


def text_of(response: Response) -> str:
    [part] = response.messages[-1].parts
    assert isinstance(part, Text)
    return part.text


def share(response: Response) -> float:
    return min(len(text_of(response)), FULL) / FULL


if __name__ == "__main__":
    main(LengthJudge(healed="HEALED" in os.environ))
