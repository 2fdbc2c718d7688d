"""A policy's reasoning, taken apart from its answer."""

from __future__ import annotations

from dataclasses import dataclass

from themis_chat.turns import THINK


@dataclass(frozen=True, slots=True)
class Thought:
    """found: whether there is reasoning; closed: whether it came to an end. Where it did not, all of the text is
    reasoning and the answer is empty; where there is none, all of it is the answer."""

    reasoning: str
    answer: str
    closed: bool
    found: bool


def split(text: str, *, opened: bool = False, tags: tuple[str, str] = THINK) -> Thought:
    """opened: whether the prompt ended with the opening tag, so that the text begins within the reasoning; the tag may
    then be repeated, as some servers do.

    Reasoning is what the text begins with, up to the first closing tag. Tags elsewhere are text like any other: a
    policy must not be able to hide the middle of its answer. Line breaks around the tags belong to neither part.
    """
    opening, closing = tags
    bare = text.lstrip()
    repeated = bare.startswith(opening)
    if not (opened or repeated):
        return Thought("", text, closed=False, found=False)
    reasoning, tag, answer = (bare.removeprefix(opening) if repeated else text).partition(closing)
    return Thought(reasoning.strip("\n"), answer.lstrip("\n"), closed=bool(tag), found=True)
