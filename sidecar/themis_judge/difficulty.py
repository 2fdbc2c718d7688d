"""How hard an answer is to foresee: its log-likelihood with and without its prompt, over the same tokens."""

from __future__ import annotations

import asyncio
import math

from themis_judge import prompts
from themis_judge.asking import Asker, Work
from themis_judge.engines.base import EngineError, Likelihood, Prompt, Tokenizer, Unsupported
from themis_judge.items import (
    Difficulty,
    Message,
    Reasoning,
    Status,
    Text,
    TokenLikelihood,
    ToolCall,
    ToolResult,
    Truncation,
)


def require_tokenizer(asker: Asker) -> Tokenizer:
    tokenizer = asker.engine.tokenizer
    if tokenizer is None:
        raise Unsupported(f"the {asker.engine.info.name} engine tells no log-likelihoods")
    return tokenizer


async def of_answer(asker: Asker, prompt: Prompt, answer: str, return_tokens: bool, work: Work) -> Difficulty:
    """Sums over all of the answer's tokens, tokenised apart from what stands before them."""
    tokenizer = require_tokenizer(asker)
    ids = tokenizer.data(answer)
    if len(prompt) + len(ids) > asker.engine.info.context_tokens:
        raise asker.too_long(len(prompt) + len(ids))
    alone = Prompt((asker.encoder.static(tokenizer.header),))
    given, bare = await asyncio.gather(
        asker.engine.loglikelihood(prompt, ids, work.deadline),
        asker.engine.loglikelihood(alone, ids, work.deadline),
    )
    work.usage += given.usage + bare.usage
    if not all(map(math.isfinite, (*given.logprobs, *bare.logprobs))):
        raise EngineError("the engine told likelihoods that are no numbers")
    tokens = _tokens(tokenizer, answer, given, bare) if return_tokens else ()
    return Difficulty(Status.OK, sum(given.logprobs), sum(bare.logprobs), len(ids), tokens)


async def evaluation_prompt(asker: Asker, layout: prompts.Layout, work: Work) -> Prompt:
    """The judge's prompt without the constant that begins its answer: the answer is the whole evaluation."""
    bare = prompts.Layout(layout.sections, layout.conversation, layout.response, "")
    return await asker.encode(bare, Truncation.REFUSE, work, 0)


def chat_prompt(asker: Asker, messages: tuple[Message, ...]) -> Prompt:
    """A conversation under the model's own chat template."""
    tokenizer = require_tokenizer(asker)
    frame = tokenizer.frame(tuple(message.role for message in messages))
    ids = list(asker.encoder.static(frame[0]))
    for message, after in zip(messages, frame[1:], strict=True):
        ids += tokenizer.data("\n".join(map(plain, message.parts)))
        ids += asker.encoder.static(after)
    return Prompt((tuple(ids),))


def plain(part: object) -> str:
    match part:
        case Text(text) | Reasoning(text) | ToolResult(text):
            return text
        case ToolCall(name, arguments):
            return f"{name} {arguments}"
    return ""


def _tokens(tokenizer: Tokenizer, answer: str, given: Likelihood, bare: Likelihood) -> tuple[TokenLikelihood, ...]:
    starts = [len(answer[:start].encode()) for start in tokenizer.offsets(answer)]
    return tuple(map(TokenLikelihood, starts, given.logprobs, bare.logprobs))
