"""Chat templates by name. A parser for another one is a `Template`, or is made of its `Markers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from themis_chat.errors import Unreadable
from themis_chat.markers import MarkedTemplate, Markers
from themis_chat.mistral import MistralTemplate
from themis_chat.turns import THINK, Exchange, Prompt, Turn

__all__ = [
    "TEMPLATES",
    "Exchange",
    "Markers",
    "Prompt",
    "Template",
    "Turn",
    "Unreadable",
    "by_markers",
    "by_name",
    "plain",
]


class Template(Protocol):
    """Reads strings that a chat template made. Raises Unreadable for what it can't have made."""

    @property
    def fillers(self) -> tuple[str, ...]:
        """Tokens that may stand before the first turn and mean nothing there."""
        ...

    def prompt(self, text: str) -> Prompt:
        """The turns of a prompt that ends with the generation prompt."""
        ...

    def response(self, text: str) -> str:
        """The reply alone: tokens that end a turn or fill up a batch are taken off its end. Whatever else it holds,
        markers of turns included, the policy wrote, and it stays."""
        ...

    def exchange(self, text: str) -> Exchange:
        """A whole chat whose last turn is the policy's reply, closed or not. A reply that spells markers is split at
        them like all of it: where prompt and response are known apart, use the other two."""
        ...

    def ended(self, text: str) -> bool | None:
        """Whether a response ends with a token that ends a turn; None where the template has no such token, or where
        it may be padding, which is all that a repeated one tells."""
        ...


class _Plain:
    fillers: tuple[str, ...] = ()

    def prompt(self, text: str) -> Prompt:
        return Prompt((Turn("user", text),))

    def response(self, text: str) -> str:
        return text

    def exchange(self, text: str) -> Exchange:
        raise Unreadable("query", 0, "plain text says nowhere where the reply begins; set `template`")

    def ended(self, text: str) -> bool | None:
        return None


CHATML = Markers(
    starts={role: f"<|im_start|>{role}\n" for role in ("system", "user", "assistant", "tool")},
    end="<|im_end|>",
    gap="\n",
    generation="<|im_start|>assistant\n",
    stops=("<|endoftext|>",),
    control=("<|im_start|>",),
)
LLAMA3 = Markers(
    starts={
        role: f"<|start_header_id|>{name}<|end_header_id|>\n\n"
        for role, name in {"system": "system", "user": "user", "assistant": "assistant", "tool": "ipython"}.items()
    },
    end="<|eot_id|>",
    generation="<|start_header_id|>assistant<|end_header_id|>\n\n",
    bos="<|begin_of_text|>",
    pads=("<|finetune_right_pad_id|>",),
    stops=("<|end_of_text|>", "<|eom_id|>"),
    control=("<|start_header_id|>", "<|eom_id|>", "<|python_tag|>"),
)
GEMMA = Markers(
    starts={
        role: f"<start_of_turn>{name}\n"
        for role, name in {"system": "system", "user": "user", "assistant": "model"}.items()
    },
    end="<end_of_turn>",
    gap="\n",
    generation="<start_of_turn>model\n",
    bos="<bos>",
    pads=("<pad>",),
    stops=("<eos>",),
    control=("<start_of_turn>",),
)


def by_markers(markers: Markers) -> Template:
    return MarkedTemplate(markers)


def plain() -> Template:
    """Text as it is: the whole prompt is one turn of the user's, the whole response the reply."""
    return _Plain()


TEMPLATES = ("chatml", "llama3", "gemma", "mistral")
_MARKED: Mapping[str, Markers] = MappingProxyType({"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA})


def by_name(name: str, think: tuple[str, str] = THINK) -> Template:
    """think: the tags of the policy's reasoning. Raises ValueError for a name that is not in TEMPLATES."""
    if name not in TEMPLATES:
        raise ValueError(f"there is no template {name!r}; there are {', '.join(TEMPLATES)}")
    if name == "mistral":
        return MistralTemplate(think)
    return MarkedTemplate(dataclasses.replace(_MARKED[name], think=think))
