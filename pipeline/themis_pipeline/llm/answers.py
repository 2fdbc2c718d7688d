"""Reads what an endpoint answered: a whole completion, or a reason why it is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from themis_pipeline.llm.calls import Finish, is_text

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WITHHELD = frozenset({"content_filter", "refusal"})
_MOST_TOKENS = 10_000_000  # no context holds more: such a count is no bill, and would use up any budget for ever


class NoCompletion(Exception):
    """Not what a chat endpoint answers. The text says what is wrong, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """text: "" where there is none, and `finish` then says so."""

    text: str = field(repr=False)
    finish: Finish
    model: str
    prompt_tokens: int
    completion_tokens: int


def read_answer(data: bytes, asked_model: str) -> Answer:
    """Raises NoCompletion: also for an answer that doesn't tell its tokens, since nothing could be accounted for, and
    for one that doesn't say why it ended, since it may have been cut."""
    try:
        told = json.loads(data)
        choice, usage = told["choices"][0], told["usage"]
        message, reason = choice["message"], choice["finish_reason"]
        text, refusal = message.get("content"), message.get("refusal")
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        model = told.get("model") or asked_model
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        raise NoCompletion("the answer is no completion with its tokens and its finish_reason") from None
    if not isinstance(text, str | None) or not isinstance(model, str) or not isinstance(reason, str):
        raise NoCompletion("the answer's text, model or finish_reason is no text")
    if not is_text(text or "") or not is_text(model):  # JSON can spell what no file can hold
        raise NoCompletion("the answer's text or model has half a surrogate pair in it")
    return Answer(text or "", _finish(reason, text or "", bool(refusal)), model, prompt, completion)


def _finish(reason: str, text: str, refused: bool) -> Finish:
    if refused or reason in _WITHHELD:
        return "withheld"
    if reason == "length":
        return "length"
    if not text.strip() or reason in ("tool_calls", "function_call"):
        return "empty"
    if reason != "stop":
        raise NoCompletion("the answer ended for a reason that isn't known here")
    return "stop"


def _count(usage: dict[str, Any], name: str) -> int:
    count = usage[name]
    if type(count) is not int or not 0 <= count <= _MOST_TOKENS:
        raise TypeError(name)
    return count


def error_code(data: bytes) -> str:
    """An error's own short name, such as "context_length_exceeded"; "" where it tells none. Its message isn't taken:
    some endpoints repeat the prompt, or part of the key."""
    try:
        error = json.loads(data)["error"]
        told = error.get("code") or error.get("type")
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return ""
    return told if isinstance(told, str) and _CODE.fullmatch(told) else ""
