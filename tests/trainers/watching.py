"""Reward functions around an adapter: one that remembers what went through it, one whose responses can't be judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.trainers.vowels import UNJUDGED


class Watched:
    """`texts` and `values` hold the responses and rewards of each call that returned."""

    def __init__(self, rewards: Any) -> None:
        self.__name__ = rewards.__name__
        self._rewards = rewards
        self.texts: list[list[str]] = []
        self.values: list[list[float | None]] = []

    def __call__(self, *, completions: list[Any], **batch: Any) -> list[float | None]:
        values: list[float | None] = self._rewards(completions=completions, **batch)
        self.texts.append([completion[0]["content"] for completion in completions])
        self.values.append(values)
        return values


class Spoilt:
    """Hands on the responses at `places` so that the judge makes nothing of them. calls: in which calls, from 0 on."""

    def __init__(self, rewards: Any, places: Iterable[int], calls: range) -> None:
        self.__name__ = rewards.__name__
        self._rewards = rewards
        self._places = frozenset(places)
        self._calls = calls
        self._call = 0

    def __call__(self, *, completions: list[Any], **batch: Any) -> list[float | None]:
        spoilt = self._places if self._call in self._calls else frozenset()
        self._call += 1
        handed = [_marked(one) if place in spoilt else one for place, one in enumerate(completions)]
        values: list[float | None] = self._rewards(completions=handed, **batch)
        return values


def _marked(completion: Any) -> Any:
    return [{**completion[0], "content": completion[0]["content"] + UNJUDGED}]
