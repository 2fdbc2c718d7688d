"""Keeps generated tokens within a grammar, by xgrammar."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import xgrammar


class Grammars:
    """Compiled grammars of one tokenizer. vocabulary: the width of the model's logits."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self._vocabulary = vocabulary
        self._compiled = lru_cache(maxsize=64)(self._compiler.compile_grammar)

    def matcher(self, grammar: str) -> Matcher:
        return Matcher(xgrammar.GrammarMatcher(self._compiled(grammar)), self._vocabulary)


class Matcher:
    """Where one text stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._mask = xgrammar.allocate_token_bitmask(1, vocabulary)

    def restrict(self, logits: torch.Tensor) -> None:
        """Sets to -inf, in place, what can't come next. logits [V]."""
        self._matcher.fill_next_token_bitmask(self._mask, 0)
        xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), self._mask.to(logits.device))

    def accept(self, token: int) -> bool:
        """Goes on; whether the text is complete."""
        self._matcher.accept_token(token)
        return bool(self._matcher.is_terminated())
