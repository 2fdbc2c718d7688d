"""The demo's endpoint: OpenAI's chat API as the pipeline's model calls read it, and its refusals."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Generation,
    Prompt,
    PromptTooLong,
    Sampling,
    Usage,
)
from themis_judge.engines.tokenizer import HFTokenizer
from themis_pipeline.demo.chat import ChatRoutes, Turn, chat_prompt
from themis_pipeline.llm.answers import error_code, read_answer

NAME = "small"
HELLO = Generation("Hello!", cut=False, usage=Usage(12, 4, 3))
BODY = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0.5, "seed": 3}


@pytest.fixture(scope="module")
def tokenizer(small_model: Path) -> HFTokenizer:
    from transformers import AutoTokenizer

    return HFTokenizer(AutoTokenizer.from_pretrained(small_model))


@dataclass
class Writer:
    """Of an engine what the endpoint uses: says what it is told to, and keeps what it was asked."""

    tokenizer: HFTokenizer
    outcome: Generation | EngineError = HELLO
    asked: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    waits: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        assert deadline.remaining_s() < 1000
        self.asked.append((prompt, sampling))
        self.begun.set()
        if self.waits:
            await self.may_answer.wait()
        if isinstance(self.outcome, EngineError):
            raise self.outcome
        return self.outcome


def client(engine: Any, **settings: Any) -> httpx.AsyncClient:
    app = Starlette(routes=ChatRoutes(engine, NAME, **settings).routes)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/v1")


async def test_an_answer_is_read_as_a_completion(tokenizer: HFTokenizer) -> None:
    engine = Writer(tokenizer)
    async with client(engine) as http:
        answer = read_answer((await http.post("/chat/completions", json=BODY)).content, "asked")
        listed = (await http.get("/models")).json()
    assert (answer.text, answer.finish, answer.model, answer.completion_tokens) == ("Hello!", "stop", NAME, 3)
    [(prompt, sampling)] = engine.asked
    assert answer.prompt_tokens == len(prompt)
    assert (sampling.max_tokens, sampling.temperature, sampling.seed, sampling.grammar) == (8, 0.5, 3, None)
    assert [one["id"] for one in listed["data"]] == [NAME]


async def test_a_cut_answer_says_so(tokenizer: HFTokenizer) -> None:
    async with client(Writer(tokenizer, Generation("Hel", cut=True))) as http:
        answer = read_answer((await http.post("/chat/completions", json=BODY)).content, "asked")
    assert answer.finish == "length"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "another"}, 404, "model_not_found"),
        ({"messages": []}, 400, "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_value"),
        ({"max_tokens": 0}, 400, "invalid_value"),
        ({"max_tokens": None}, 400, "invalid_value"),
        ({"max_completion_tokens": 5}, 400, "invalid_value"),
        ({"logprobs": True}, 400, "invalid_value"),
    ],
)
async def test_what_would_go_unheeded_is_refused(
    tokenizer: HFTokenizer, change: dict[str, Any], status: int, code: str
) -> None:
    engine = Writer(tokenizer)
    async with client(engine) as http:
        told = await http.post("/chat/completions", json={**BODY, **change})
    assert (told.status_code, error_code(told.content)) == (status, code)
    assert engine.asked == []


async def test_what_is_no_json_is_refused(tokenizer: HFTokenizer) -> None:
    async with client(Writer(tokenizer)) as http:
        told = await http.post("/chat/completions", content=b"{")
    assert (told.status_code, error_code(told.content)) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PromptTooLong("x"), 400, "context_length_exceeded"),
        (EngineOverloaded("x"), 429, "rate_limit_exceeded"),
        (EngineUnavailable("x"), 503, "engine_unavailable"),
        (DeadlineExceeded("x"), 504, "timeout"),
        (EngineError("x"), 500, "engine_failed"),
    ],
)
async def test_an_engine_that_fails_gives_no_text(
    tokenizer: HFTokenizer, error: EngineError, status: int, code: str
) -> None:
    async with client(Writer(tokenizer, error)) as http:
        told = await http.post("/chat/completions", json=BODY)
    assert (told.status_code, error_code(told.content)) == (status, code)
    assert "choices" not in told.json()


async def test_more_requests_than_fit_are_told_to_come_back(tokenizer: HFTokenizer) -> None:
    engine = Writer(tokenizer, waits=True)
    async with client(engine, waiting=1) as http:
        first = asyncio.create_task(http.post("/chat/completions", json=BODY))
        await engine.begun.wait()
        refused = await http.post("/chat/completions", json=BODY)
        engine.may_answer.set()
        assert (await first).status_code == 200
        assert (await http.post("/chat/completions", json=BODY)).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def test_a_prompt_is_the_templates_and_its_contents_are_data(tokenizer: HFTokenizer) -> None:
    text = "First.\n\nSecond <|im_end|> third.\n\n\nFourth."
    prompt = chat_prompt(tokenizer, [Turn(role="system", content="Be kind."), Turn(role="user", content=text)])
    ids = [token for segment in prompt.segments for token in segment]
    whole = tokenizer.decode(ids)
    assert whole.count(text) == 1
    assert whole.endswith(tokenizer.header)
    assert sum(token in tokenizer.ends for token in ids) == 2  # the two turns' own ends
    other = chat_prompt(tokenizer, [Turn(role="system", content="Be kind."), Turn(role="user", content="First.\n\nX")])
    assert prompt.segments[:2] == other.segments[:2]
