"""Templates in which each turn stands between markers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from themis_chat.errors import Unreadable
from themis_chat.turns import THINK, Exchange, Prompt, Turn, ends, exchange_of, opens_thinking, skip, without_end

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Markers:
    r"""How a template spells a chat. Raises ValueError where turns could not be told apart.

    starts: by role, all that stands before a turn's text ("<|im_start|>user\n"). end: what closes a turn; ends: the
    same by role where they differ, empty where the next turn's start is all that ends it. gap: what follows an end.
    generation: what the policy continues. stops: tokens that end a reply beside `end`. pads: tokens that fill up a
    batch. All of these and bos are skipped before the first turn, and all but bos taken off a reply's end. control:
    what can't stand within a turn's text. think: the tags of reasoning.
    """

    starts: Mapping[str, str]
    end: str
    generation: str
    gap: str = ""
    ends: Mapping[str, str] = field(default_factory=dict)
    bos: str = ""
    stops: tuple[str, ...] = ()
    pads: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    think: tuple[str, str] = THINK

    def __post_init__(self) -> None:
        unknown = [role for role in (*self.starts, *self.ends) if role not in ROLES]
        if unknown:
            raise ValueError(f"starts, ends: {unknown[0]} is no role; the roles are {', '.join(ROLES)}")
        if "user" not in self.starts or not all(self.starts.values()):
            raise ValueError("starts: needs the start of a user's turn, and no start may be empty")
        if len(set(self.starts.values())) < len(self.starts):
            raise ValueError("starts: two roles have the same one, and could not be told apart")
        if not self.generation:
            raise ValueError("generation: is empty; say what stands before a reply")
        if not all((*self.stops, *self.pads, *self.control, *self.think)):
            raise ValueError("stops, pads, control, think: none of them may be empty")


class MarkedTemplate:
    """See `themis_chat.templates.Template`. The string is split at its markers: one that a user spelt in a text can't
    be told from the template's own, and is taken for it."""

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._starts = sorted(markers.starts.items(), key=lambda start: -len(start[1]))  # the longest match first
        within = (*markers.control, *markers.starts.values(), markers.generation)
        self._within = re.compile("|".join(re.escape(marker) for marker in within))
        self._last = tuple(token for token in (markers.ends.get("assistant", markers.end), *markers.stops) if token)
        self.fillers = tuple(token for token in (markers.bos, *markers.pads, *self._last) if token)

    def prompt(self, text: str) -> Prompt:
        turns: list[Turn] = []
        at = skip(text, self.fillers)
        while not self._generates(text, at):
            turn, at = self._turn(text, at)
            turns.append(turn)
        if not turns:
            raise Unreadable("prompt", at, f"expected the start of a turn, {self._named_starts()}")
        opened = opens_thinking(text, at + len(self._markers.generation), self._markers.think)
        return Prompt(tuple(turns), opened)

    def exchange(self, text: str) -> Exchange:
        turns: list[Turn] = []
        at, ended = skip(text, self.fillers), None
        try:
            while at < len(text):
                if self._generates(text, at):
                    rest = text[at + len(self._markers.generation) :]
                    turns.append(Turn("assistant", self.response(rest)))
                    ended, at = self.ended(rest), len(text)
                else:
                    turn, at = self._turn(text, at)
                    turns.append(turn)
        except Unreadable as error:
            raise Unreadable("query", error.character, error.problem) from None
        return exchange_of(turns, ended, at)

    def response(self, text: str) -> str:
        return self._cut(text)[0]

    def ended(self, text: str) -> bool | None:
        return ends(self._cut(text)[1], self._last) if self._last else None

    def _cut(self, text: str) -> tuple[str, tuple[str, ...]]:
        return without_end(text, (*self._last, *self._markers.pads), self._markers.gap)

    def _generates(self, text: str, at: int) -> bool:
        """Whether what begins at `at` is the generation prompt, and no turn of the assistant's that was closed."""
        generation, end = self._markers.generation, self._end_of("assistant")
        if not text.startswith(generation, at):
            return False
        begin = at + len(generation)
        return text.find(end, begin) < 0 if end else self._within.search(text, begin) is None

    def _turn(self, text: str, at: int) -> tuple[Turn, int]:
        """The turn that begins at `at`, and where the next one has to."""
        found = next(((role, start) for role, start in self._starts if text.startswith(start, at)), None)
        if found is None:
            raise Unreadable("prompt", at, self._expected(text, at))
        role, begin = found[0], at + len(found[1])
        end = self._end_of(role)
        inside = self._within.search(text, begin)
        if not end:
            close = len(text) if inside is None else inside.start()
            return Turn(role, text[begin:close]), close
        close = text.find(end, begin)
        if close < 0:
            raise Unreadable("prompt", at, f"the turn that begins here is not closed; expected {end!r} after its text")
        if inside is not None and inside.start() < close:
            raise Unreadable("prompt", inside.start(), f"expected {end!r} before another turn's marker")
        after = close + len(end)
        if after < len(text) and not text.startswith(self._markers.gap, after):
            raise Unreadable("prompt", after, f"expected {self._markers.gap!r} after a turn's end")
        return Turn(role, text[begin:close]), min(after + len(self._markers.gap), len(text))

    def _expected(self, text: str, at: int) -> str:
        if at == len(text):
            return (
                f"expected the generation prompt, {self._markers.generation!r}; apply the chat template with "
                "add_generation_prompt"
            )
        return f"expected the start of a turn, {self._named_starts()}; see that `template` is the policy's own"

    def _named_starts(self) -> str:
        return " or ".join(repr(start) for _, start in self._starts)

    def _end_of(self, role: str) -> str:
        return self._markers.ends.get(role, self._markers.end)
