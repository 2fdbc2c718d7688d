"""OpenAI's chat completions over an engine of the judge's, for the demo and its tests only.

It has what the pipeline's model calls need and no more: no keys, no streams, one choice an answer. What serves in
production is vLLM or a provider, told by its address in the pipeline's settings.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from json import JSONDecodeError
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    Engine,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Prompt,
    PromptTooLong,
    Sampling,
    Tokenizer,
    Unsupported,
)

# Where prompts may share their beginning: most of a teacher's prompt is the same for all answers of a scenario.
_CUT = re.compile(r"(?<=\n\n)(?=.)", re.DOTALL)
_STATUS: tuple[tuple[type[EngineError], int, str], ...] = (
    (PromptTooLong, 400, "context_length_exceeded"),
    (Unsupported, 400, "unsupported_value"),
    (EngineOverloaded, 429, "rate_limit_exceeded"),
    (EngineUnavailable, 503, "engine_unavailable"),
    (DeadlineExceeded, 504, "timeout"),
)


class Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class Structured(BaseModel):
    """vLLM's name for it: an EBNF grammar that the answer obeys."""

    grammar: str | None = None


class Asked(BaseModel):
    """A request's fields; others, which would go unheeded, are refused."""

    model_config = {"extra": "forbid"}

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    seed: int = 0
    stop: list[str] = []
    structured_outputs: Structured = Structured()

    @model_validator(mode="after")
    def _bounded(self) -> Asked:
        if (self.max_tokens is None) == (self.max_completion_tokens is None):
            raise ValueError("one of max_tokens and max_completion_tokens is expected")
        return self

    def sampling(self, form_for: Callable[[str], str | None]) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens or self.max_completion_tokens or 1,
            temperature=self.temperature,
            seed=self.seed,
            stop=tuple(self.stop),
            grammar=self.structured_outputs.grammar or form_for(self.messages[-1].content),
        )


def free(_prompt: str) -> None:
    """Every answer may be as it likes."""


class ChatRoutes:
    """model: what the engine is called here; form_for: the grammar for the answer to a prompt that brings none, if
    any; waiting: requests at a time, further ones are told 429; timeout_s: of one."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        form_for: Callable[[str], str | None] = free,
        waiting: int = 64,
        timeout_s: float = 120.0,
    ) -> None:
        self._engine, self._model, self._form_for = engine, model, form_for
        self._waiting, self._timeout_s = waiting, timeout_s
        self._here = 0

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
        ]

    async def _models(self, _request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "local"}]})

    async def _complete(self, request: Request) -> JSONResponse:
        try:
            asked = Asked.model_validate(await request.json())
        except (JSONDecodeError, UnicodeDecodeError):
            return _refused(400, "invalid_json", "the body is no JSON")
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            return _refused(400, "invalid_value", f"{place}: {first['msg']}", place)
        if asked.model != self._model:
            return _refused(404, "model_not_found", f"the model here is {self._model}", "model")
        if self._here >= self._waiting:
            return _refused(429, "rate_limit_exceeded", f"{self._here} requests are under way already")
        self._here += 1
        try:
            return await self._answer(asked)
        except EngineError as error:
            status, code = next(((s, c) for kind, s, c in _STATUS if isinstance(error, kind)), (500, "engine_failed"))
            return _refused(status, code, str(error))
        finally:
            self._here -= 1

    async def _answer(self, asked: Asked) -> JSONResponse:
        tokenizer = self._engine.tokenizer
        if tokenizer is None:
            raise Unsupported("an engine without a tokenizer can't be asked here")
        prompt = chat_prompt(tokenizer, asked.messages)
        made = await self._engine.generate(prompt, asked.sampling(self._form_for), Deadline.after(self._timeout_s))
        usage = made.usage
        return JSONResponse(
            {
                "id": f"chatcmpl-{time.monotonic_ns():x}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": self._model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": made.text},
                        "finish_reason": "length" if made.cut else "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": len(prompt),
                    "completion_tokens": usage.completion_tokens,
                    "total_tokens": len(prompt) + usage.completion_tokens,
                    "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
                },
            }
        )


def chat_prompt(tokenizer: Tokenizer, turns: Sequence[Turn]) -> Prompt:
    """Contents can't become control tokens. Raises Unsupported for roles that the model's template refuses."""
    frame = tokenizer.frame(tuple(turn.role for turn in turns))
    segments: list[tuple[int, ...]] = []
    control = tokenizer.control(frame[0])
    for turn, after in zip(turns, frame[1:], strict=True):
        for part in _CUT.split(turn.content):
            segments.append((*control, *tokenizer.data(part)))
            control = []
        control = tokenizer.control(after)
    segments.append(tuple(control))
    return Prompt(tuple(segment for segment in segments if segment))


def _refused(status: int, code: str, message: str, param: str | None = None) -> JSONResponse:
    kind = "invalid_request_error" if status < 429 else "server_error"
    error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": code}
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return JSONResponse({"error": error}, status, headers)
