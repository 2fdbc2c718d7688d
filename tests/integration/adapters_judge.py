"""A judge that prefers a letter, for adapters: their rewards can be told by hand."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.sidecar_fakes import FakeJudge
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


class LetterJudge(FakeJudge):
    """The score is the share of "a" in the answer. Answers that name a status get that status."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []
        self.comparisons: list[Comparison] = []

    async def score_one(self, item: Item, options: Options | None = None, deadline: Deadline = NO_DEADLINE) -> Result:
        self.items.append(item)
        text = answer(item)
        await self._handle(text, deadline)
        for status in (Status.INVALID, Status.OFF_FORMAT, Status.UNAVAILABLE):
            if status.name in text:
                return Result(status=status, error=f"it says {status.name}")
        return Result(status=Status.OK, verdict=verdict(share(text)), scenario="math")

    async def compare_one(
        self,
        comparison: Comparison,
        orders: Orders = Orders.BOTH,
        reasoning_policy: ReasoningPolicy = ReasoningPolicy.STRIP,
        return_prompt: bool = False,
        deadline: Deadline = NO_DEADLINE,
    ) -> CompareResult:
        """Whoever has the larger share wins for certain."""
        self.comparisons.append(comparison)
        a, b = (share(answer_of(response)) for response in (comparison.response_a, comparison.response_b))
        name, chances = ("A", (1.0, 0.0, 0.0)) if a > b else ("B", (0.0, 1.0, 0.0))
        if a == b:
            name, chances = "tie", (0.0, 0.0, 1.0)
        return CompareResult(status=Status.OK, verdict=Preference(name, chances, 0.0, 0.95))


def share(text: str) -> float:
    return text.count("a") / max(1, len(text))


def shares(texts: Sequence[str]) -> list[float]:
    return [share(text) for text in texts]


def answer(item: Item) -> str:
    return answer_of(item.response)


def answer_of(response: Response) -> str:
    parts = [part for message in response.messages for part in message.parts]
    return "".join(part.text for part in parts if isinstance(part, Text))


def verdict(score: float) -> Verdict:
    return Verdict(Distribution((1, 2), (1 - score, score), 0.9, 1 + score, 2), score=score, entropy=0.5)
