"""Samples from strings that the policy's chat template made, for trainers that keep no messages.

Which template that was, nobody can tell from a string with certainty, so that it has to be named:

    THEMIS_TEMPLATE=chatml              one of chatml, llama3, gemma, mistral
    THEMIS_TEMPLATE=plain               prompts are plain text, made without a template
    THEMIS_TEMPLATE=@markers.json       another one, by its themis_chat.templates.Markers

A string that the template can't have made fails its sample; it is never taken for something else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from themis_chat.query import response_of
from themis_chat.templates import TEMPLATES, Markers, Prompt, Template, by_markers, by_name, plain
from themis_client.adapters.sample import Sample, sample
from themis_client.adapters.settings import Thinking
from themis_client.content import FinishReason

TEMPLATE_VARIABLE = "THEMIS_TEMPLATE"
PLAIN = "plain"
FINISHES = {True: FinishReason.STOP, False: FinishReason.LENGTH, None: FinishReason.UNSPECIFIED}
"""What the end of a response tells: one without a token that ends a turn was cut."""


def template_from_environment(environment: Mapping[str, str]) -> Template:
    """Raises ValueError, OSError for a file that can't be read."""
    named = environment.get(TEMPLATE_VARIABLE, "")
    if not named:
        raise ValueError(f"{TEMPLATE_VARIABLE} is not set: the policy's chat template, one of {_known()}, or @FILE")
    return template_of(named, TEMPLATE_VARIABLE)


def template_of(named: str | Mapping[str, Any], setting: str) -> Template:
    """A template by its name, by @ and the path of a JSON file with its markers, or by these. Raises as above."""
    if named == PLAIN:
        return plain()
    if isinstance(named, str) and not named.startswith("@"):
        if named not in TEMPLATES:
            raise ValueError(f"{setting}: there is no template {named!r}; there are {_known()}, or @FILE")
        return by_name(named)
    try:
        markers = json.loads(Path(named[1:]).read_text(encoding="utf-8")) if isinstance(named, str) else named
        return by_markers(_markers(markers))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{setting}: {error}") from error


def ends_turns(template: Template) -> bool:
    """Whether a response's end tells if it was cut."""
    return template.ended("") is not None


def templated(
    template: Template,
    thinking: Thinking | None,
    prompt: str,
    response: str,
    *,
    reference: str | None = None,
    group: str = "",
) -> Sample:
    """A prompt that ends with the generation prompt, and the response with its special tokens. Raises Unreadable and
    InvalidItem."""
    read = template.prompt(prompt)
    return sample(
        turns(read),
        template.response(response),
        opened(thinking, read),
        finish_reason=FINISHES[template.ended(response)],
        reference=reference,
        group=group,
    )


def queried(template: Template, thinking: Thinking | None, query: str, prompt: str, reference: str | None) -> Sample:
    """The same from the prompt with its response in one string. Raises Unreadable and InvalidItem."""
    # A prompt that the policy saw without its beginning is judged whole: what was left of it may begin anywhere.
    _, response = response_of(query, prompt, template.fillers)
    return templated(template, thinking, prompt, response, reference=reference)


def turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.text} for turn in prompt.turns]


def opened(thinking: Thinking | None, prompt: Prompt) -> Thinking | None:
    """Completions begin within the reasoning where the prompt opened it, whatever the settings say."""
    if thinking is None or not prompt.opened_thinking:
        return thinking
    return dataclasses.replace(thinking, opened=True)


def _markers(fields: Any) -> Markers:
    if not isinstance(fields, Mapping):
        raise ValueError("an object with the template's markers is needed")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Markers(**values)


def _known() -> str:
    return ", ".join((*TEMPLATES, PLAIN))
