"""Items of the shape asked for: the same for a seed, whatever sends them in which order."""

from __future__ import annotations

import random

from themis_client.bench.shape import Shape, Words
from themis_client.items import Item

WORDS = (
    "the a river stone market engine letter garden mountain number window paper teacher system winter bread light "
    "answer question model reason method result value table street music story water field house family doctor "
    "moves takes gives finds shows keeps brings holds turns makes between without before after under over"
)
POOL_WORDS = 65_536
"""Texts are cut from one long text: a word at a time, the client would be busier writing than measuring."""


class Texts:
    """Item number `i` is response `i % group_size` to conversation `i // group_size`.

    Each text begins with its own number and the run's, so that no two begin alike: a server that remembers answers
    or beginnings of prompts shares nothing but what the shape says it shares.
    """

    def __init__(self, shape: Shape) -> None:
        chance = random.Random(shape.seed)
        words = WORDS.split()
        self._pool = [chance.choice(words) for _ in range(POOL_WORDS)]
        self._shape = shape

    def item(self, index: int) -> Item:
        conversation, member = divmod(index, self._shape.group_size)
        group, key = f"{self._shape.run}{conversation}", f"{self._shape.run}{conversation}.{member}"
        question = self._text(group, f"{conversation}", self._shape.prompt_words)
        answer = self._text(key, f"{conversation}.{member}", self._shape.response_words)
        return Item(question, answer, scenario=self._shape.scenario, key=key, group=group)

    def _text(self, name: str, number: str, length: Words) -> str:
        # Drawn without the run's name: two runs of one seed send equal words in equal number behind their names.
        chance = random.Random(f"{self._shape.seed} {number}")
        more = length.draw(chance) - 1
        start = chance.randrange(POOL_WORDS)
        words = self._pool[start : start + more]
        while len(words) < more:
            words += self._pool[: more - len(words)]
        return " ".join([name, *words])
