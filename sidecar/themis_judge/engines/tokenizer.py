"""A Hugging Face tokenizer behind the seam: user text can't become control tokens, by construction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer as FastTokenizer

from themis_judge.engines.base import Unsupported

_CONTENT = "\u241econtent-{}\u241e"  # stands for a turn's content while the template is taken apart


class HFTokenizer:
    """Wraps a fast tokenizer of transformers (`AutoTokenizer.from_pretrained(...)`).

    Data are encoded by a copy that knows no added tokens. Where a vocabulary could still spell one (unigram
    models hold theirs among ordinary pieces), the text is split inside it until it can't.
    """

    def __init__(self, tokenizer: Any) -> None:
        state = _plain_state(tokenizer.backend_tokenizer)
        self._control = FastTokenizer.from_str(json.dumps(state))
        self._data = _without_added_tokens(state)
        self.forbidden = _control_ids(tokenizer)
        self._frame = lru_cache(maxsize=256)(self._take_apart)
        self.wrapped = tokenizer
        self.ends = _ending_ids(tokenizer)

    def control(self, text: str) -> list[int]:
        ids: list[int] = self._control.encode(text, add_special_tokens=False).ids
        return ids

    def data(self, text: str) -> list[int]:
        # The batch call computes no offsets, which makes it faster than `encode`, and leaves the interpreter free.
        ids: list[int] = self._data.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if self.forbidden.isdisjoint(ids):
            return ids
        return [token for token, _ in self._split(text)]

    def offsets(self, text: str) -> list[int]:
        encoded = self._data.encode(text, add_special_tokens=False)
        if self.forbidden.isdisjoint(encoded.ids):
            return [start for start, _ in encoded.offsets]
        return [start for _, start in self._split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._control.decode(list(ids), skip_special_tokens=False)
        return text

    def frame(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        return self._frame(roles)

    @property
    def header(self) -> str:
        """What `add_generation_prompt` adds; for templates where that is nothing, what follows the last turn."""
        turn = [{"role": "user", "content": _CONTENT.format(0)}]
        if not self.wrapped.chat_template:
            return self.frame(("user",))[-1]
        closed = self._render(turn, generation=False)
        opened = self._render(turn, generation=True)
        added = opened.removeprefix(closed)
        return added if added and added != opened else self.frame(("user",))[-1]

    def _take_apart(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        contents = [_CONTENT.format(index) for index in range(len(roles))]
        if not self.wrapped.chat_template:
            rendered = "".join(f"### {r.title()}:\n{c}\n\n" for r, c in zip(roles, contents, strict=True))
            rendered += "### Assistant:\n"
        else:
            turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
            rendered = self._render(turns, generation=True)
        texts = []
        for content in contents:
            before, found, rendered = rendered.partition(content)
            if not found:
                raise Unsupported("the model's chat template does not show every turn in order")
            texts.append(before)
        return (*texts, rendered)

    def _render(self, turns: list[dict[str, str]], generation: bool) -> str:
        try:
            # Templates that know thinking are asked for none: the rating's constant must follow at once.
            text: str = self.wrapped.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generation, enable_thinking=False
            )
        except TemplateError as error:
            raise Unsupported(f"the model's chat template refuses these turns: {error}") from error
        return text

    def _split(self, text: str) -> list[tuple[int, int]]:
        """(id, start) of each token, with a cut inside whatever would be a control token. Each round cuts all parts
        that still hold one, so that a text of nothing else takes few rounds."""
        parts, tokens = [(0, text)], []
        while parts:
            encoded = self._data.encode_batch([part for _, part in parts], add_special_tokens=False)
            held, parts = parts, []
            for (start, part), found in zip(held, encoded, strict=True):
                pairs = list(zip(found.ids, found.offsets, strict=True))
                cuts = [self._cut(part, *span) for token, span in pairs if token in self.forbidden]
                edges = [0, *cuts, len(part)]
                if cuts:
                    parts += [(start + left, part[left:right]) for left, right in pairwise(edges)]
                else:
                    tokens += [(token, start + left) for token, (left, _) in pairs]
        return sorted(tokens, key=lambda token: token[1])

    def _cut(self, text: str, left: int, right: int) -> int:
        if right - left < 2:
            raise Unsupported(f"the tokenizer turns the character {text[left:right]!r} into a control token")
        return left + 1


def _plain_state(tokenizer: Any) -> dict[str, Any]:
    """Without limits, and without the space that some models put before a text: ours are parts of one."""
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    state["post_processor"] = state["truncation"] = state["padding"] = None
    for step in _steps(state["pre_tokenizer"], "pretokenizers"):
        if step["type"] == "Metaspace":
            step["prepend_scheme"] = "never"
        if step["type"] == "ByteLevel":
            step["add_prefix_space"] = False
    if (state["normalizer"] or {}).get("type") == "Prepend":
        state["normalizer"] = None
    elif (state["normalizer"] or {}).get("type") == "Sequence":
        kept = [step for step in state["normalizer"]["normalizers"] if step["type"] != "Prepend"]
        state["normalizer"]["normalizers"] = kept
    return state


def _steps(part: Any, name: str) -> list[Any]:
    if part is None:
        return []
    return list(part[name]) if part["type"] == "Sequence" else [part]


def _without_added_tokens(state: dict[str, Any]) -> Any:
    """A copy whose added tokens are gone, but for runs of white space, which some models add for code."""
    kept = [token for token in state["added_tokens"] if not token["content"].strip()]
    return FastTokenizer.from_str(json.dumps({**state, "added_tokens": kept}))


def _ending_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that end a turn or a text: the tokenizer's own, and those that chat templates use for it."""
    known = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>")
    added = json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
    ids = {token["id"] for token in added if token["content"] in known}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return frozenset(ids)


def _control_ids(tokenizer: Any) -> frozenset[int]:
    added = json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
    ids = {token["id"] for token in added if token["content"].strip()} | set(tokenizer.all_special_ids)
    # An unknown character is data. Only where the same id also ends or pads texts must it stay out.
    used = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id}
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id not in used:
        ids.discard(tokenizer.unk_token_id)
    return frozenset(ids)
