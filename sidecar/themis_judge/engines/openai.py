"""An engine behind an OpenAI-compatible HTTP endpoint: a teacher, or a server elsewhere.

Prompts go out as text. In chat the model writes the whole line that the prompt asks for, and the label is read
where it stands in it; with plain completions the line's beginning is part of the prompt.
"""

from __future__ import annotations

import asyncio
import math
import random as standard_random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import httpx

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineInfo,
    EngineOverloaded,
    EngineUnavailable,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    PromptTooLong,
    Sampling,
    Tokenizer,
    Unsupported,
    Usage,
)
from themis_judge.engines.openai_logprobs import LabelReader, tokens_of
from themis_judge.engines.retry_after import retry_after_s

Answer = TypeVar("Answer")

_LOAD_TIMEOUT_S = 10.0
_RETRIED = frozenset({429, 500, 502, 503, 504})
_MAX_LABEL_TOKENS = 64
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum (model|context|input)|prompt .{0,60}too long|must be at least 1, got -",
    re.IGNORECASE,
)
_FIXES = {
    401: "check api_key",
    403: "check what the api_key may do",
    404: "check base_url (it usually ends in /v1), model and api",
}


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """base_url: as clients take it, "http://host:8000/v1". separator: between the user turn and the answer's
    beginning, where api is "completions". top_logprobs: alternatives asked for at each place; 0 asks for no
    log-probabilities (some endpoints refuse, and /completions often allows 5 at most). max_tokens_field: newer
    models call it "max_completion_tokens". grammar_field: where the endpoint takes a grammar, dotted where nested
    ("structured_outputs.grammar" or "guided_grammar" for vLLM); None: it is asked for none, and the text may not
    obey it. max_wait_s: longest wait before a retry; an endpoint that asks for more gets no retry. extra_body:
    more fields of each request."""

    base_url: str
    model: str
    api: Literal["chat", "completions"] = "chat"
    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 32
    timeout_s: float = 120.0
    attempts: int = 5
    context_tokens: int = 32768
    top_logprobs: int = 20
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 20.0
    max_wait_s: float = 60.0
    separator: str = "\n\n"
    max_tokens_field: str = "max_tokens"
    grammar_field: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = httpx.URL(self.base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("base_url must be an http or https address")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("base_url is shown in errors: no user, password, query or fragment in it")
        if self.api not in ("chat", "completions"):
            raise ValueError('api must be "chat" or "completions"')
        if self.api_key is not None and not re.fullmatch(r"[!-~]*", self.api_key):
            raise ValueError("api_key has spaces, line ends or other characters that a header can't carry")
        if min(self.concurrency, self.attempts, self.context_tokens) < 1 or self.top_logprobs < 0:
            raise ValueError("concurrency, attempts and context_tokens must be positive, top_logprobs not negative")
        if self.timeout_s <= 0 or min(self.backoff_base_s, self.backoff_cap_s, self.max_wait_s) < 0:
            raise ValueError("timeout_s must be positive, the back-off's times not negative")


class OpenAIEngine:
    """Implements `Engine`. sleep, clock (monotonic), wall (epoch) in seconds; random in [0, 1)."""

    def __init__(
        self,
        settings: OpenAISettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = standard_random.random,
    ) -> None:
        self._settings = settings
        self._sleep, self._clock, self._wall, self._random = sleep, clock, wall, random
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._client: httpx.AsyncClient | None = None

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("openai", self._settings.model, self._settings.context_tokens)

    @property
    def tokenizer(self) -> Tokenizer | None:
        return None

    @property
    def failure(self) -> str | None:
        """None always: an endpoint that is down now may be back for the next call."""
        return None

    async def load(self) -> None:
        """Opens the client and asks for the list of models, which not every endpoint has."""
        settings = self._settings
        client = httpx.AsyncClient(
            base_url=settings.base_url,
            headers={"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else None,
            timeout=settings.timeout_s,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )
        async with AsyncExitStack() as undo:
            undo.push_async_callback(client.aclose)
            try:
                response = await client.get("/models", timeout=min(settings.timeout_s, _LOAD_TIMEOUT_S))
            except httpx.RequestError as error:
                raise self._unreachable(error) from None
            if response.status_code in (401, 403) or response.is_server_error:
                raise self._refusal(response, 0.0)
            undo.pop_all()
        await self.unload()
        self._client = client

    async def unload(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        """A label that is not among the alternatives told gets -inf: the labels' mass is then a lower bound. Where
        the probabilities are not told or can't be told apart, `chosen` is what the text says, None if no label."""
        chat = self._settings.api == "chat"
        longest = max(len(label.encode()) for label in labels.texts)
        # A token has at least a byte, so this is enough for the label and what ends it.
        wanted = longest + 4 + (len(prompt.answer_start.encode()) if chat else 0)
        body = self._body(prompt, min(wanted, _MAX_LABEL_TOKENS), 0.0)
        count = self._settings.top_logprobs
        if count:
            body |= {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}
        reader = LabelReader(prompt.answer_start, labels.texts, prefilled=not chat)

        def read(choice: dict[str, Any], usage: Usage) -> LabelScores:
            tokens = tokens_of(choice.get("logprobs"))
            logprobs, chosen = reader.read(_text(choice, chat), tokens, choice.get("finish_reason") == "length")
            return LabelScores(logprobs, usage, chosen)

        return await self._ask(body, read, deadline)

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        """The text after the prompt's answer_start, which a chat model may have written again or not."""
        chat = self._settings.api == "chat"
        body = self._body(prompt, sampling.max_tokens, sampling.temperature) | {"seed": sampling.seed}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.grammar is not None and self._settings.grammar_field is not None:
            outer, _, inner = self._settings.grammar_field.partition(".")
            body[outer] = {**body.get(outer, {}), inner: sampling.grammar} if inner else sampling.grammar

        def read(choice: dict[str, Any], usage: Usage) -> Generation:
            text = _text(choice, chat)
            if chat and prompt.answer_start and text.lstrip().startswith(prompt.answer_start):
                text = text.lstrip().removeprefix(prompt.answer_start)
            return Generation(text, choice.get("finish_reason") == "length", usage)

        return await self._ask(body, read, deadline)

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        raise Unsupported("an OpenAI-compatible endpoint takes text, not token ids: no log-likelihood")

    def _body(self, prompt: Prompt, max_tokens: int, temperature: float) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "temperature": temperature,
            settings.max_tokens_field: max_tokens,
        }
        if settings.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt.text}]
        else:
            body["prompt"] = prompt.text + settings.separator + prompt.answer_start
        return body | dict(settings.extra_body)

    async def _ask(
        self, body: dict[str, Any], read: Callable[[dict[str, Any], Usage], Answer], deadline: Deadline
    ) -> Answer:
        left_s = deadline.at_s - self._clock()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed before the endpoint was asked")
        limit_s = None if math.isinf(left_s) else left_s
        try:
            response, queued_s, computed_s = await asyncio.wait_for(self._send(body, deadline), limit_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"the deadline passed before {self._settings.base_url} answered") from None
        try:
            answer = response.json()
            return read(answer["choices"][0], _usage(answer.get("usage") or {}, queued_s, computed_s))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"{self._settings.base_url} answered what is no completion: {self._said(response)}"
            raise EngineError(message) from error

    async def _send(self, body: dict[str, Any], deadline: Deadline) -> tuple[httpx.Response, float, float]:
        """(the answer, seconds before its attempt began, seconds that attempt took). A call that waits to try
        again keeps its slot: an endpoint that asks for patience gets fewer requests."""
        settings = self._settings
        path = "/chat/completions" if settings.api == "chat" else "/completions"
        asked_s, attempt = self._clock(), 0
        async with self._slots:
            while True:
                attempt += 1
                if self._client is None:
                    raise EngineUnavailable("the engine is not loaded")
                ceiling_s = min(settings.backoff_cap_s, settings.backoff_base_s * 2.0 ** (attempt - 1))
                started_s, told_s = self._clock(), None
                try:
                    response = await self._client.post(path, json=body)
                except httpx.RequestError as error:
                    trouble: EngineError = self._unreachable(error)
                else:
                    if response.is_success:
                        return response, started_s - asked_s, self._clock() - started_s
                    told_s = retry_after_s(response.headers, self._wall())
                    trouble = self._refusal(response, ceiling_s if told_s is None else told_s)
                    if response.status_code not in _RETRIED:
                        raise trouble
                wait_s = self._random() * ceiling_s
                if told_s is not None:  # callers told the same don't come back at the same moment
                    wait_s = told_s + self._random() * settings.backoff_base_s
                impatient = (told_s or 0.0) > settings.max_wait_s or self._clock() + wait_s >= deadline.at_s
                if attempt >= settings.attempts or impatient:
                    raise trouble
                await self._sleep(wait_s)

    def _unreachable(self, error: httpx.RequestError) -> EngineUnavailable:
        return EngineUnavailable(f"no answer from {self._settings.base_url} ({type(error).__name__}: {error})")

    def _refusal(self, response: httpx.Response, retry_after_s: float) -> EngineError:
        status = response.status_code
        message = f"{self._settings.base_url} answered {status}"
        if status in (401, 403):  # some endpoints repeat part of the key
            return EngineError(f"{message}: {_FIXES[status]}")
        message = f"{message}: {self._said(response)}"
        if status == 429:
            return EngineOverloaded(message, retry_after_s)
        if status >= 500:
            return EngineUnavailable(message)
        if status in (400, 413, 422) and _TOO_LONG.search(response.text):
            return PromptTooLong(message)
        return EngineError(f"{message}; {_FIXES[status]}" if status in _FIXES else message)

    def _said(self, response: httpx.Response) -> str:
        text = " ".join(response.text.split())
        if self._settings.api_key:
            text = text.replace(self._settings.api_key, "***")
        return text[:300] or "nothing"


def _text(choice: dict[str, Any], chat: bool) -> str:
    text = choice["message"]["content"] if chat else choice["text"]
    if text is None:  # a refusal, or reasoning that took all tokens
        return ""
    if not isinstance(text, str):
        raise TypeError("the text is no string")
    return text


def _usage(told: dict[str, Any], queued_s: float, computed_s: float) -> Usage:
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    return Usage(int(prompt or 0), int(cached or 0), int(completion or 0), queued_s, computed_s)
