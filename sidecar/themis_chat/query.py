"""A prompt and its response out of one string, as reward servers of the OpenRLHF kind are sent them."""

from __future__ import annotations

from collections.abc import Iterator

from themis_chat.errors import Unreadable
from themis_chat.turns import skip

LEAST_CHARACTERS = 16
"""Of a prompt that was cut on the left: the end of any prompt may meet the beginning of any text by chance."""

_TRIES = 8


def response_of(query: str, prompt: str, fillers: tuple[str, ...] = ()) -> tuple[str, str]:
    """The prompt as the policy saw it, and what follows it in `query`.

    fillers: tokens with which a batch may have been padded on the left; skipped where the whole prompt follows.

    Where the query does not begin with the prompt, the prompt was truncated on the left: the longest end of it with
    which the query begins is what was left. Raises Unreadable where there is none of at least LEAST_CHARACTERS.
    """
    if query.startswith(prompt):
        return prompt, query[len(prompt) :]
    at = _padded(query, prompt, fillers)
    if at is not None:
        return prompt, query[at + len(prompt) :]
    seen = _longest_end(query, prompt)
    if seen < LEAST_CHARACTERS:
        raise Unreadable(
            "query",
            0,
            "expected the prompt, or the end of one that was truncated on the left; send both with the same special "
            "tokens",
        )
    return query[:seen], query[seen:]


def _padded(query: str, prompt: str, fillers: tuple[str, ...]) -> int | None:
    """Where the prompt begins behind fillers, with which it may begin itself; None where it does not."""
    at = skip(query, fillers) - skip(prompt, fillers)
    return at if at > 0 and query.startswith(prompt, at) else None


def _longest_end(query: str, prompt: str) -> int:
    """The length of the longest end of `prompt` that `query` begins with. Its time grows with the texts' length and no
    faster, whatever they hold."""
    for tried, start in enumerate(_places(prompt, query[:LEAST_CHARACTERS])):
        if tried == _TRIES:
            return _overlap(query, prompt)
        if query.startswith(prompt[start:]):
            return len(prompt) - start
    return 0


def _places(text: str, part: str) -> Iterator[int]:
    start = text.find(part)
    while start >= 0:
        yield start
        start = text.find(part, start + 1)


def _overlap(query: str, prompt: str) -> int:
    """By Knuth, Morris and Pratt: for texts that repeat themselves."""
    head = query[: len(prompt)]
    back = [0] * len(head)
    for at in range(1, len(head)):
        length = back[at - 1]
        while length and head[at] != head[length]:
            length = back[length - 1]
        back[at] = length + (head[at] == head[length])
    matched = 0
    for character in prompt:
        while matched and (matched == len(head) or head[matched] != character):
            matched = back[matched - 1]
        matched += matched < len(head) and head[matched] == character
    return matched
