"""What is asked of vLLM, as its sampling parameters, and what its answers say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from themis_judge.engines.base import EngineError, Sampling, Unsupported, Usage
from themis_judge.engines.tokenizer import HFTokenizer

_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.01, 2.0  # beyond them vLLM samples by another one than it was told
_BAN = -1e4  # far below any logit; what a grammar forbids is -inf by itself


def next_tokens(tokens: Sequence[int], **more: Any) -> SamplingParams:
    """One prefill that tells the log-probabilities of these next tokens under the full vocabulary."""
    params: SamplingParams = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(tokens),
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # vLLM alters its copy in ways that are the same for every request
        **more,
    )
    return params


def told_next(output: Any, tokens: Sequence[int]) -> list[float]:
    """The log-probabilities that `next_tokens` asked for. Raises EngineError where one is missing or no number."""
    flat = output.outputs[0].logprobs
    found = dict(zip(flat.token_ids, flat.logprobs, strict=True)) if flat else {}
    values = [found.get(token, math.nan) for token in tokens]
    if any(map(math.isnan, values)):
        raise EngineError("vLLM told no probability for some of the tokens that were asked for")
    return values


def continuation(prompt_tokens: int, tokens: Sequence[int], by_ids: bool) -> SamplingParams:
    """For a prompt of the prompt's ids and all but the last of these tokens: the log-probabilities of all of them.

    by_ids: whether vLLM's runner tells those of given tokens at given places; else it tells every place's, which
    costs a row of logits for each token of the prompt, and reads no prefix cache.
    """
    before = tokens[:-1]
    if not before:
        return next_tokens(tokens)
    if by_ids:
        return next_tokens(
            tokens[-1:],
            prompt_logprob_token_ids=[[token] for token in before],
            prompt_logprob_start=prompt_tokens - 1,
        )
    return next_tokens(tokens[-1:], prompt_logprobs=0)


def told_continuation(output: Any, prompt_tokens: int, tokens: Sequence[int], by_ids: bool) -> list[float]:
    last = told_next(output, tokens[-1:])
    before = tokens[:-1]
    if not before:
        return last
    if by_ids:
        values = [float(row[0]) for row in output.prompt_token_id_logprobs]
    else:
        flat = output.prompt_logprobs
        places = [flat.start_indices[prompt_tokens + index] for index in range(len(before))]
        if [flat.token_ids[place] for place in places] != list(before):
            raise EngineError("vLLM told the probabilities of other tokens than the prompt's")
        values = [flat.logprobs[place] for place in places]
    if len(values) != len(before):
        raise EngineError("vLLM told fewer probabilities than there are tokens")
    return values + last


def text(sampling: Sampling, tokenizer: HFTokenizer) -> SamplingParams:
    """Raises Unsupported for a temperature that vLLM would not heed."""
    if sampling.temperature and not _LOWEST_TEMPERATURE <= sampling.temperature <= _HIGHEST_TEMPERATURE:
        raise Unsupported(
            f"vLLM samples at temperatures from {_LOWEST_TEMPERATURE} to {_HIGHEST_TEMPERATURE:g}, or greedily at 0"
        )
    grammar: dict[str, Any] = {}
    if sampling.grammar is not None:
        banned = tokenizer.forbidden - tokenizer.ends  # no part of any text, though a grammar may spell them
        grammar = {
            "structured_outputs": StructuredOutputsParams(grammar=sampling.grammar),
            "logit_bias": dict.fromkeys(sorted(banned), _BAN),
        }
    params: SamplingParams = SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        seed=sampling.seed % 2**63 if sampling.temperature else None,  # -1 would mean none to vLLM
        stop=list(sampling.stop),
        stop_token_ids=sorted(tokenizer.ends),
        detokenize=bool(sampling.stop),  # stop texts need it; the text itself is ours to decode
        skip_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **grammar,
    )
    return params


def told_text(output: Any, sampling: Sampling, tokenizer: HFTokenizer) -> tuple[str, int, bool]:
    """The text, its tokens, and whether max_tokens ended it."""
    made = output.outputs[0]
    ids = list(made.token_ids)
    if ids and ids[-1] in tokenizer.ends:
        ids.pop()
    written = tokenizer.decode(ids)
    for stop in sampling.stop:
        written = written.partition(stop)[0]
    return written, len(ids), made.finish_reason == "length"


def usage(output: Any, prompt_tokens: int, completion_tokens: int = 0) -> Usage:
    """Times as vLLM took them: until the request was first scheduled, and from then on."""
    times = output.metrics
    return Usage(
        prompt_tokens,
        min(output.num_cached_tokens or 0, prompt_tokens),
        completion_tokens,
        queued_s=max(0.0, times.scheduled_ts - times.queued_ts),
        computed_s=max(0.0, times.last_token_ts - times.scheduled_ts),
    )


def tells_by_ids(config: Any) -> bool:
    """Whether this vLLM, with the runner it chose, tells the probabilities of given tokens at given places."""
    return bool(config.use_v2_model_runner) and hasattr(SamplingParams, "prompt_logprob_token_ids")
