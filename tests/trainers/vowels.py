"""What the judge of these tests likes: vowels. Nothing but the standard library, for its own process and for tests."""

from __future__ import annotations

VOWELS = frozenset("aeiou")
UNJUDGED = "zzz"  # a response that holds this can't be judged

_LEAST = 0.01  # every rating keeps some probability, as with any judge


def liking(response: str) -> float:
    """The score in [0, 1] that the judge gives: nearly the share of vowels among what is no white space."""
    said = [character for character in response if not character.isspace()]
    share = sum(character in VOWELS for character in said) / len(said)
    return _LEAST + (1 - 2 * _LEAST) * share
