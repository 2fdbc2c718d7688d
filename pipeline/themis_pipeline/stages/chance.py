"""Choices that look random and are the same on every machine and every Python: drawn from a digest of their names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def number(*names: str | int) -> int:
    """A whole number in [0, 2**64), given by the names."""
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    texts = [str(name).encode() for name in names]
    digest = hashlib.sha256(b"".join(len(text).to_bytes(8, "big") + text for text in texts)).digest()
    return int.from_bytes(digest[:8], "big")


def below(limit: int, *names: str | int) -> int:
    """In [0, limit); the bias is limit / 2**64."""
    return number(*names) % limit


def picked(values: Sequence[T], *names: str | int) -> T:
    return values[below(len(values), *names)]


def shuffled(values: Sequence[T], *names: str | int) -> list[T]:
    found = list(values)
    for last in range(len(found) - 1, 0, -1):
        other = below(last + 1, *names, last)
        found[last], found[other] = found[other], found[last]
    return found


def dealt(values: Sequence[T], turn: int, *names: str | int) -> T:
    """What comes at a turn (from 0 on) when shuffled decks of the values are dealt one after the other: each value
    comes once in every len(values) turns."""
    deck, position = divmod(turn, len(values))
    return shuffled(values, *names, deck)[position]


def weighted(weights: Sequence[float], count: int, *names: str | int) -> list[int]:
    """`count` different indices, the likelier the heavier; those with weight 0 never. Raises ValueError where fewer
    have a weight."""
    heavy = [index for index, weight in enumerate(weights) if weight > 0]
    if count > len(heavy):
        raise ValueError("more are asked for than have a weight")
    # The smallest of independent exponential times with these rates (Efraimidis and Spirakis).
    times = {index: -math.log((number(*names, index) + 1) / 2**64) / weights[index] for index in heavy}
    return sorted(heavy, key=lambda index: (times[index], index))[:count]


def kept(share: float, *names: str | int) -> bool:
    """True for about `share`, in [0, 1], of all names; what is kept by a share is kept by a larger one too."""
    return number(*names) < share * 2**64
