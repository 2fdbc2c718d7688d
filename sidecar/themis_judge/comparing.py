"""Comparing two responses, in both orders unless told otherwise."""

from __future__ import annotations

import asyncio

from themis_judge import prompts
from themis_judge.asking import LABEL_RESERVE_TOKENS, Asker, Work
from themis_judge.failures import caught, raised
from themis_judge.items import Comparison, Orders, Preference, ReasoningPolicy, Truncation

_LABELS = ("A", "B", "C")  # C is a tie

Told = tuple[tuple[float, float, float], float | None]


async def prefer(
    asker: Asker,
    comparison: Comparison,
    task: prompts.Task,
    reference: str | None,
    orders: Orders,
    policy: ReasoningPolicy,
    work: Work,
) -> Preference:
    """The preference, averaged over the orders asked for."""
    wanted = {Orders.BOTH: (False, True), Orders.A_FIRST: (False,), Orders.B_FIRST: (True,)}[orders]
    asked = [_in_order(asker, comparison, task, reference, swapped, policy, work) for swapped in wanted]
    return average([raised(one) for one in await asyncio.gather(*map(caught, asked))])


def average(told: list[Told]) -> Preference:
    """The mean of one or two orders' probabilities of (A, B, tie); how far two of them are apart."""
    a, b, tie = (sum(probabilities[i] for probabilities, _ in told) / len(told) for i in range(3))
    disagreement = None
    if len(told) == 2:
        disagreement = sum(abs(x - y) for x, y in zip(told[0][0], told[1][0], strict=True)) / 2
    masses = [mass for _, mass in told if mass is not None]
    choice = "tie" if a == b or tie >= max(a, b) else ("A" if a > b else "B")
    return Preference(choice, (a, b, tie), disagreement, min(masses) if masses else None)


async def _in_order(
    asker: Asker,
    comparison: Comparison,
    task: prompts.Task,
    reference: str | None,
    swapped: bool,
    policy: ReasoningPolicy,
    work: Work,
) -> Told:
    """Probabilities of (response_a, response_b, tie) with one of them shown first, and their label mass."""
    first, second = comparison.response_a, comparison.response_b
    if swapped:
        first, second = second, first
    show = policy is ReasoningPolicy.JUDGE
    layout = prompts.pair(task, comparison.messages, first, second, reference, show_reasoning=show)
    prompt = await asker.encode(layout, Truncation.REFUSE, work, LABEL_RESERVE_TOKENS)
    found = asker.told((0, 1, 2), await asker.labels(prompt, _LABELS, work))
    x, y, tie = found.probabilities or [float(found.chosen == i) for i in range(3)]
    return ((y, x, tie) if swapped else (x, y, tie)), found.label_mass
