"""What templated strings are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from themis_chat.errors import Unreadable

THINK = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Turn:
    """role: "system", "user", "assistant" or "tool"."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """opened_thinking: whether the prompt ends within the reply's reasoning, which it opened itself."""

    turns: tuple[Turn, ...]
    opened_thinking: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A whole chat: what the policy was asked, and its reply. ended: as of `Template.ended`."""

    prompt: Prompt
    reply: str
    ended: bool | None


def exchange_of(turns: list[Turn], ended: bool | None, end: int) -> Exchange:
    """end: where the turns end. Raises Unreadable where the last one is no reply to others."""
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise Unreadable("query", end, "expected the assistant's turn last, after those that it answers")
    return Exchange(Prompt(tuple(turns[:-1])), turns[-1].text, ended)


def opens_thinking(text: str, start: int, tags: tuple[str, str]) -> bool:
    """What stands behind the generation prompt, at `start`: nothing, an opened reasoning, or one that was opened and
    closed so that there be none. Raises Unreadable for anything else."""
    opening, closing = map(re.escape, tags)
    found = re.compile(rf"\s*({opening}\s*)?({closing}\s*)?").fullmatch(text, start)
    if found is None or (found[2] and not found[1]):
        raise Unreadable(
            "prompt",
            start,
            f"expected the end, or {tags[0]}, after the generation prompt; a reply that the prompt begins with text "
            "can't be told from the response",
        )
    return bool(found[1]) and not found[2]


def skip(text: str, tokens: tuple[str, ...]) -> int:
    """Where the tokens end that the text begins with, however many."""
    at = 0
    while token := next((token for token in tokens if text.startswith(token, at)), None):
        at += len(token)
    return at


def without_end(text: str, tokens: tuple[str, ...], gap: str = "") -> tuple[str, tuple[str, ...]]:
    """The text without the tokens at its end, however many, each of which `gap` may follow; and these, last first."""
    found: list[str] = []
    end = len(text)
    while True:
        places = (end, end - len(gap)) if gap and text.endswith(gap, 0, end) else (end,)
        last = next(((token, at) for at in places for token in tokens if text.endswith(token, 0, at)), None)
        if last is None:
            return text[:end], tuple(found)
        found.append(last[0])
        end = last[1] - len(last[0])


def ends(found: tuple[str, ...], stops: tuple[str, ...]) -> bool | None:
    """Whether one of `stops` ended a text that ended with `found`; None where there is only one that is repeated: a
    policy writes it once, and a batch whose padding is that token repeats it behind a reply that was cut off too."""
    counts = [found.count(stop) for stop in stops]
    return True if 1 in counts else None if any(counts) else False
