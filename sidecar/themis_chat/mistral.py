"""Mistral's template, in which the policy's turns have no start of their own."""

from __future__ import annotations

import re

from themis_chat.errors import Unreadable
from themis_chat.turns import THINK, Exchange, Prompt, Turn, ends, exchange_of, opens_thinking, skip, without_end

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
BEGIN, END = "[INST]", "[/INST]"
SYSTEM = ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
OLD_SYSTEM = ("<<SYS>>\n", "\n<</SYS>>\n\n")
_CONTROL = re.compile(
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT)\]|\[(?:TOOL_CALLS|ARGS|CALL_ID)\]"
)


class MistralTemplate:
    """See `themis_chat.templates.Template`. One space within each marker is the template's, not the text's, since some
    of its versions write it and some don't. A system prompt that a version puts into a user's turn without a marker
    can't be told from it and stays there. Turns with tools are not read. think: the tags of reasoning."""

    fillers = (BOS, EOS, PAD)

    def __init__(self, think: tuple[str, str] = THINK) -> None:
        self._think = think

    def prompt(self, text: str) -> Prompt:
        turns, at = self._turns(text)
        if turns[-1].role == "assistant":
            raise Unreadable("prompt", at, f"expected {BEGIN!r}, and {END!r} at the prompt's end")
        return Prompt(tuple(turns), opens_thinking(text, at, self._think))

    def exchange(self, text: str) -> Exchange:
        try:
            turns, at = self._turns(text)
            if turns[-1].role == "assistant":
                return exchange_of(turns, None, at)
        except Unreadable as error:
            raise Unreadable("query", error.character, error.problem) from None
        return exchange_of([*turns, Turn("assistant", self.response(text[at:]))], self.ended(text[at:]), len(text))

    def _turns(self, text: str) -> tuple[list[Turn], int]:
        """All turns but a reply that is not closed, and where they end."""
        at = skip(text, self.fillers)
        turns: list[Turn] = []
        if text.startswith(SYSTEM[0], at):
            system, at = _between(text, at, *SYSTEM)
            turns.append(Turn("system", system))
        while True:
            asked_at = at
            user, at = _between(text, at, BEGIN, END)
            turns.extend(_with_system(user, asked_at) if not turns else (Turn("user", user),))
            close = text.find(EOS, at)
            if close < 0:
                return turns, at
            turns.append(Turn("assistant", _inner(text, at, close)))
            at = _after_reply(text, close + len(EOS))
            if at == len(text):
                return turns, at

    def response(self, text: str) -> str:
        return _without_space(without_end(text, (EOS, PAD))[0], last=False)

    def ended(self, text: str) -> bool | None:
        return ends(without_end(text, (EOS, PAD))[1], (EOS,))


def _between(text: str, at: int, begin: str, end: str) -> tuple[str, int]:
    """What stands between the two markers, the first of which has to be at `at`; and where the second one ends."""
    if not text.startswith(begin, at):
        raise Unreadable("prompt", at, f"expected {begin!r}; see that `template` is the policy's own")
    close = text.find(end, at)
    if close < 0:
        raise Unreadable("prompt", at, f"the turn that begins here is not closed; expected {end!r} after its text")
    return _inner(text, at + len(begin), close), close + len(end)


def _inner(text: str, begin: int, close: int) -> str:
    found = _CONTROL.search(text, begin, close)
    if found is not None:
        raise Unreadable("prompt", found.start(), "expected the end of the turn before another control token")
    return _without_space(text[begin:close])


def _without_space(text: str, last: bool = True) -> str:
    bare = text.removeprefix(" ")
    return bare.removesuffix(" ") if last else bare


def _with_system(user: str, at: int) -> tuple[Turn, ...]:
    begin, end = OLD_SYSTEM
    if not user.startswith(begin):
        return (Turn("user", user),)
    system, found, rest = user.removeprefix(begin).partition(end)
    if not found:
        raise Unreadable("prompt", at, f"the turn that begins here opens a system prompt; expected {end!r} in it")
    return Turn("system", system), Turn("user", rest)


def _after_reply(text: str, at: int) -> int:
    """Some versions write a space, or begin each exchange like a text of its own."""
    at += text.startswith(" ", at)
    return at + len(BOS) if text.startswith(BOS, at) else at
