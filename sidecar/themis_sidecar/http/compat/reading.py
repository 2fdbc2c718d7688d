"""From strings that a policy's template made to items for the judge, by the rules of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_chat.errors import Unreadable
from themis_chat.query import response_of
from themis_chat.templates import Turn
from themis_chat.think import split
from themis_chat.turns import Prompt
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import CompatConfig
from themis_sidecar.errors import InvalidCall
from themis_sidecar.http.compat.wire import ChatMessage


@dataclass(frozen=True, slots=True)
class Places:
    """Where a sample's parts stand in the request, to name them by."""

    reply: str
    prompt: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply to judge. ended: whether a token that ends a turn stood at its end, None where that can't be known."""

    places: Places
    prompt: Prompt
    reply: str
    ended: bool | None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What to do with a sample: have `item` judged or, where the settings name its score, take that."""

    places: Places
    item: pb.Item | None
    named_score: float | None
    truncated: bool


class Reader:
    """Raises InvalidCall for what can't be read."""

    def __init__(self, config: CompatConfig, max_item_bytes: int) -> None:
        self._config = config
        self._max_item_bytes = max_item_bytes
        self._template = config.policy_template()

    def query(self, index: int, query: str, prompt: str, label: str | None) -> Sample:
        """OpenRLHF's: prompt and response as one string, and the prompt alone, whole even where the policy saw only
        its end."""
        places = Places(f"query[{index}]", f"prompts[{index}]", f"labels[{index}]")
        self._check_length(places.prompt, prompt)
        self._check_length(places.reply, query)
        try:
            response = response_of(query, prompt, self._template.fillers)[1]
            return self._sample(places, self._template.prompt(prompt), response, label)
        except Unreadable as error:
            raise _unreadable(places.prompt if error.where == "prompt" else places.reply, error) from None

    def reply(self, prompt: str | Sequence[ChatMessage], response: str, label: str | None) -> Sample:
        """slime's: prompt and response apart."""
        self._check_length("prompt", prompt if isinstance(prompt, str) else "")
        self._check_length("response", response)
        try:
            asked = self._template.prompt(prompt) if isinstance(prompt, str) else self._asked(_turns(prompt))
        except Unreadable as error:
            raise _unreadable("prompt", error) from None
        return self._sample(Places("response", "prompt", "label"), asked, response, label)

    def chat(self, where: str, text: str) -> Sample:
        """A whole chat as one string, which a reply that spells markers can make longer by turns."""
        self._check_length(where, text)
        try:
            found = self._template.exchange(text)
        except Unreadable as error:
            raise _unreadable(where, error) from None
        if self._config.single_turn and [turn.role for turn in found.prompt.turns if turn.role != "system"] != ["user"]:
            raise InvalidCall(
                where, "holds more than one turn of the user's and its reply; see http.compat.single_turn"
            )
        return Sample(Places(where, where), self._asked(found.prompt.turns), found.reply, found.ended)

    def messages(self, where: str, messages: Sequence[ChatMessage]) -> Sample:
        """A whole chat as messages."""
        if not messages or messages[-1].role != "assistant":
            raise InvalidCall(where, "must end with the assistant's message, which is what is judged")
        return Sample(Places(where, where), self._asked(_turns(messages[:-1])), messages[-1].content, None)

    def entry(self, sample: Sample) -> Entry:
        config, truncated = self._config, self._config.truncated != "ignore" and sample.ended is False
        if truncated and config.truncated == "fail":
            raise InvalidCall(
                sample.places.reply,
                "was cut off: no token that ends a turn stands at its end; see http.compat.truncated",
            )
        if truncated and config.truncated_score is not None:
            return Entry(sample.places, None, config.truncated_score, truncated)
        thought = split(sample.reply, opened=sample.prompt.opened_thinking, tags=config.think.tags)
        shown = thought.answer.strip() or (config.thinking == "judge" and thought.reasoning.strip())
        if not shown and config.empty_score is not None:
            return Entry(sample.places, None, config.empty_score, truncated)
        parts = [pb.Part(reasoning=thought.reasoning)] if thought.reasoning else []
        parts += [pb.Part(text=thought.answer)] if thought.answer else []
        return Entry(sample.places, self._item(sample, parts, truncated), None, truncated)

    def _item(self, sample: Sample, parts: list[pb.Part], truncated: bool) -> pb.Item:
        return pb.Item(
            messages=[pb.Message(role=turn.role, parts=[pb.Part(text=turn.text)]) for turn in sample.prompt.turns],
            response=pb.Response(
                messages=[pb.Message(role="assistant", parts=parts or [pb.Part(text="")])],
                finish_reason=pb.FINISH_REASON_LENGTH if truncated else pb.FINISH_REASON_UNSPECIFIED,
            ),
            reference=sample.label or None,  # empty where the trainer's data have no such column
            scenario=self._config.scenario,
        )

    def _check_length(self, where: str, text: str) -> None:
        """Before it is taken apart; the item that comes of it is measured in bytes."""
        if len(text) > self._max_item_bytes:
            raise InvalidCall(
                where, f"has {len(text)} characters; this server takes items of up to {self._max_item_bytes} bytes"
            )

    def _asked(self, turns: tuple[Turn, ...]) -> Prompt:
        """Without the generation prompt, which would say whether it opened the reasoning."""
        return Prompt(turns, opened_thinking=self._config.opened_thinking)

    def _sample(self, places: Places, prompt: Prompt, response: str, label: str | None) -> Sample:
        template = self._template
        return Sample(places, prompt, template.response(response), template.ended(response), label)


def _turns(messages: Sequence[ChatMessage]) -> tuple[Turn, ...]:
    return tuple(Turn(one.role, one.content) for one in messages)


def _unreadable(where: str, error: Unreadable) -> InvalidCall:
    return InvalidCall(where, f"at character {error.character}: {error.problem}")
