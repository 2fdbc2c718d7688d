"""Texts that are nearly the same, by MinHash and locality-sensitive hashing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

_SPACE = re.compile(r"\s+")
_SEED = 1  # the hash functions; another one finds slightly other candidates


@dataclass(frozen=True, slots=True)
class Sieve:
    """similarity: the share of shingles that two texts have in common (Jaccard) from which on they count as the same.
    shingle_characters: how long a shingle is. permutations: more find candidates more surely, and cost more."""

    similarity: float = 0.8
    shingle_characters: int = 5
    permutations: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1 or self.shingle_characters < 1 or self.permutations < 16:
            raise ValueError("similarity lies in (0, 1], shingles have a character, and permutations are at least 16")


def components(texts: Mapping[str, str], sieve: Sieve) -> dict[str, str]:
    """For each id the first id, by name, of those that it is nearly the same as, directly or by others between them;
    its own where there is none. Candidates come from hashing and are then compared exactly: no two texts are joined by
    chance, and the result depends on the texts alone."""
    shingled = {id: _shingles(text, sieve.shingle_characters) for id, text in sorted(texts.items())}
    index = MinHashLSH(threshold=sieve.similarity, num_perm=sieve.permutations, weights=(0.1, 0.9))
    groups = _Groups()
    for id, shingles in shingled.items():
        sketch = MinHash(num_perm=sieve.permutations, seed=_SEED)
        sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
        for other in sorted(index.query(sketch)):
            if groups.first(other) != groups.first(id) and _alike(shingles, shingled[other], sieve.similarity):
                groups.join(id, other)
        index.insert(id, sketch)
    return {id: groups.first(id) for id in shingled}


def _shingles(text: str, length: int) -> frozenset[str]:
    """Characters, not words: not every language puts spaces between them."""
    plain = _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return frozenset(plain[at : at + length] for at in range(max(1, len(plain) - length + 1)))


def _alike(one: frozenset[str], other: frozenset[str], similarity: float) -> bool:
    shared = len(one & other)
    return shared >= similarity * (len(one) + len(other) - shared)


class _Groups:
    """Connected components, each named after its first member."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def first(self, id: str) -> str:
        root = id
        while (above := self._above.get(root, root)) != root:
            root = above
        while (above := self._above.get(id, id)) != root:
            self._above[id], id = root, above
        return root

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.first(one), self.first(other)))
        self._above[second] = first
