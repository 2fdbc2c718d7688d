"""Which scenario a conversation belongs to: one prefill of the judge's own engine, remembered."""

from __future__ import annotations

from collections.abc import Mapping

from themis_judge import prompts
from themis_judge.asking import LABEL_RESERVE_TOKENS, Asker, Work
from themis_judge.items import Classification, Message, Status, Truncation
from themis_judge.lru import LRU
from themis_judge.scenarios import Scenario

_HELD_CHARACTERS = 4_000_000


class Classifier:
    """Classifies over the given scenarios with an asker's engine."""

    def __init__(self, asker: Asker, scenarios: Mapping[str, Scenario]) -> None:
        self._asker = asker
        self._ids = tuple(scenarios)
        self._kinds = tuple((letters(index), s.name, s.definition) for index, s in enumerate(scenarios.values()))
        self._held: LRU[tuple[Message, ...], Classification] = LRU(_HELD_CHARACTERS)

    async def classify(
        self, messages: tuple[Message, ...], work: Work, policy: Truncation = Truncation.REFUSE
    ) -> Classification:
        held = self._held.get(messages)
        if held is not None:
            return held
        layout = prompts.classify(self._kinds, messages)
        prompt = await self._asker.encode(layout, policy, work, LABEL_RESERVE_TOKENS)
        scores = await self._asker.labels(prompt, tuple(label for label, _, _ in self._kinds), work)
        found = self._asker.told(tuple(range(len(self._ids))), scores)
        result = Classification(Status.OK, self._ids[found.chosen], found.probabilities or (), found.label_mass)
        self._held.put(messages, result, layout.characters())
        return result


def letters(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        text = chr(ord("A") + rest) + text
    return text
