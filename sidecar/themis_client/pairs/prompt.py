"""One row of the input: a prompt, and the responses to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from themis_client import parse
from themis_client.errors import InvalidItem
from themis_client.items import Item

Turns: TypeAlias = "list[dict[str, str]]"
Content: TypeAlias = "str | Turns"
"""A text, or messages of a role and a content: the two forms that TRL knows."""

FIELDS = ("prompt", "responses", "reference", "scenario", "id")
LEAST_RESPONSES = 2


@dataclass(frozen=True, slots=True)
class Prompt:
    """prompt and responses are all texts, or all messages. id: the row's own name; empty where it has none."""

    prompt: Content
    responses: tuple[Content, ...]
    reference: str | None
    scenario: str
    id: str

    @property
    def chat(self) -> bool:
        return not isinstance(self.prompt, str)

    @property
    def distinct(self) -> list[int]:
        """Positions of the responses, each text once: a response is neither better nor worse than its own copy."""
        return [index for index, one in enumerate(self.responses) if one not in self.responses[:index]]

    def item(self, index: int, line: int) -> Item:
        """What the judge is asked about one response."""
        return Item(
            self.prompt,
            self.responses[index],
            reference=self.reference,
            scenario=self.scenario,
            key=f"{self.id or line}/{index}",
            group=self.id or str(line),
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Prompt:
        """Raises InvalidItem for what can't be read, and for what would have no place in a file of pairs."""
        found = {name: one for name, one in value.items() if one is not None}
        parse.known_fields(found, FIELDS)
        prompt = _content(found.get("prompt"), "prompt")
        responses = found.get("responses")
        if isinstance(responses, str) or not isinstance(responses, Sequence):
            _wrong(responses, "a list", "responses")
        if len(responses) < LEAST_RESPONSES:
            raise InvalidItem("responses", f"{LEAST_RESPONSES} at least are needed, not {len(responses)}")
        chat = not isinstance(prompt, str)
        return cls(
            prompt,
            tuple(_response(one, f"responses[{index}]", chat) for index, one in enumerate(responses)),
            None if "reference" not in found else _text(found["reference"], "reference"),
            _text(found.get("scenario", ""), "scenario"),
            _id(found.get("id", "")),
        )


def _response(value: Any, path: str, chat: bool) -> Content:
    if not chat:
        if not isinstance(value, str):
            _wrong(value, "a text, as the prompt is one,", path)
        return _text(value, path)
    if isinstance(value, str):
        return [{"role": "assistant", "content": _text(value, path)}]
    return _turns([value] if isinstance(value, Mapping) else value, path)


def _content(value: Any, path: str) -> Content:
    return _text(value, path) if isinstance(value, str) else _turns(value, path)


def _turns(value: Any, path: str) -> Turns:
    if not isinstance(value, Sequence):
        _wrong(value, "a text or a list of messages", path)
    if not value:
        raise InvalidItem(path, "there is no message in it")
    return [_turn(one, f"{path}[{index}]") for index, one in enumerate(value)]


def _turn(value: Any, path: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        _wrong(value, "an object", path)
    more = [str(name) for name, one in value.items() if one is not None and name not in ("role", "content")]
    if more:
        # Judged or not, it would be missing from what the policy is trained on.
        raise InvalidItem(f"{path}.{more[0]}", "a message of a pair holds role and content, and nothing else")
    return {name: _text(value.get(name), f"{path}.{name}") for name in ("role", "content")}


def _id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        _wrong(value, "a text", path)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidItem(path, f"lone surrogate at character {error.start}: not text") from error
    return value


def _wrong(value: Any, wanted: str, path: str) -> NoReturn:
    raise InvalidItem(path, "missing" if value is None else f"{wanted} is needed, not {type(value).__name__}")
