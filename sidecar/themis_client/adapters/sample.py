"""One completion as a trainer hands it over."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from themis_chat.think import Thought, split
from themis_client import parse
from themis_client.adapters.settings import Thinking
from themis_client.content import FinishReason, Message, Part, Reasoning, Response, Text
from themis_client.errors import InvalidItem
from themis_client.items import Item
from themis_client.parse import ConversationLike


@dataclass(frozen=True, slots=True)
class Sample:
    """item: what is judged; its group, if it has one, is shared by the completions of one prompt. completion_tokens:
    of the policy's tokenizer, for the length penalty. answered: whether anything follows the policy's reasoning.
    Whether the completion was cut is the finish reason of its response."""

    item: Item
    completion_tokens: int | None = None
    answered: bool = True

    @property
    def truncated(self) -> bool:
        return self.item.response.finish_reason is FinishReason.LENGTH


def sample(
    prompt: ConversationLike,
    completion: str | Sequence[Mapping[str, Any]],
    thinking: Thinking | None,
    *,
    completion_tokens: int | None = None,
    finish_reason: FinishReason = FinishReason.UNSPECIFIED,
    reference: str | None = None,
    scenario: str = "",
    group: str = "",
) -> Sample:
    """Reads a prompt and its completion, texts or lists of messages. A plain prompt that ends with the opening tag of
    the reasoning has opened it. Raises InvalidItem."""
    written = parse.response(completion).messages
    if thinking is not None and isinstance(prompt, str) and prompt.rstrip().endswith(thinking.tags[0]):
        thinking = replace(thinking, opened=True)
    messages, answered = (written, True) if thinking is None else _thought(written, thinking)
    item = Item(
        prompt,
        Response(messages, finish_reason),
        reference=reference,
        scenario=scenario,
        group=group,
    )
    return Sample(item, completion_tokens, answered)


def reference_of(label: Any) -> str | None:
    """A data set's label as the judge's reference: a text or a number. Trainers write an empty text where there is
    none. Raises InvalidItem for anything else, which a judge would read in Python's spelling."""
    if label is None or isinstance(label, str):
        return label or None
    if isinstance(label, bool) or not isinstance(label, (int, float)):
        raise InvalidItem("reference", f"a text or a number is needed, not {type(label).__name__}")
    if not math.isfinite(label):
        raise InvalidItem("reference", "a text or a finite number is needed")
    return str(label)


def _thought(messages: Sequence[Message], thinking: Thinking) -> tuple[tuple[Message, ...], bool]:
    """The messages with the policy's reasoning in parts of its own, and whether an answer follows the last one."""
    opened, read, answered = thinking.opened, [], True
    for message in messages:
        if message.role == "assistant":
            parts: list[Part] = []
            for part in message.parts:
                if isinstance(part, Text):
                    parts += _parts(split(part.text, opened=opened, tags=thinking.tags))
                    opened = False
                else:
                    parts.append(part)
            message, answered = Message(message.role, parts), _answers(parts)
        read.append(message)
    return tuple(read), answered


def _answers(parts: Sequence[Part]) -> bool:
    """Whether anything but reasoning follows the reasoning, if there is any."""
    after = list(itertools.takewhile(lambda part: not isinstance(part, Reasoning), reversed(parts)))
    return len(after) == len(parts) or any(not isinstance(part, Text) or part.text.strip() for part in after)


def _parts(thought: Thought) -> list[Part]:
    if not thought.found:
        return [Text(thought.answer)]
    return [Reasoning(thought.reasoning), *([Text(thought.answer)] if thought.answer else [])]
