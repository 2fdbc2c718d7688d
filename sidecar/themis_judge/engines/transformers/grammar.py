"""Keeps generated tokens within a grammar, by xgrammar."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import xgrammar


class Grammars:
    """Compiled grammars of one tokenizer. vocabulary: the width of the model's logits; ends: ids that may end a
    text, where its grammar allows; control: ids of control tokens, which are no part of any text."""

    def __init__(self, tokenizer: Any, vocabulary: int, ends: frozenset[int], control: frozenset[int]) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=sorted(ends))
        self._banned = torch.tensor(sorted(control - ends), dtype=torch.long)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self._vocabulary = vocabulary
        self._compiled = lru_cache(maxsize=64)(self._compiler.compile_grammar)

    def matcher(self, grammar: str) -> Matcher:
        return Matcher(xgrammar.GrammarMatcher(self._compiled(grammar)), self._vocabulary, self._banned)


class Matcher:
    """Where one text stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int, banned: torch.Tensor) -> None:
        self._matcher = matcher
        self._banned = banned
        self._mask = xgrammar.allocate_token_bitmask(1, vocabulary)

    def restrict(self, logits: torch.Tensor) -> torch.Tensor:
        """A copy of logits [V] in which what can't come next is -inf."""
        logits = logits.clone()
        self._matcher.fill_next_token_bitmask(self._mask, 0)
        xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), self._mask.to(logits.device))
        logits[self._banned.to(logits.device)] = -torch.inf
        return logits

    def accept(self, token: int) -> bool:
        """Goes on; whether the text is complete."""
        self._matcher.accept_token(token)
        return bool(self._matcher.is_terminated())
