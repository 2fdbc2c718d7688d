"""Which prefills it takes to read labels of several tokens."""

from __future__ import annotations

from collections.abc import Sequence

_AT_A_TIME = 128  # tokens that vLLM tells after one prefill: its MAX_LOGPROB_TOKEN_IDS

Reads = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


def reads(sequences: Sequence[tuple[int, ...]]) -> Reads:
    """After each beginning that some labels share, the tokens that may follow it; as few of each as vLLM tells at a
    time."""
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for sequence in sequences:
        for at, token in enumerate(sequence):
            following.setdefault(sequence[:at], {})[token] = None
    return tuple(
        (beginning, tuple(tokens)[begin : begin + _AT_A_TIME])
        for beginning, tokens in following.items()
        for begin in range(0, len(tokens), _AT_A_TIME)
    )
