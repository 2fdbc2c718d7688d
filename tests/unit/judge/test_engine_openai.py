"""The OpenAI-compatible engine against a real HTTP server that answers as the test says."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    Engine,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Labels,
    Prompt,
    PromptTooLong,
    Sampling,
    Unsupported,
)
from themis_judge.engines.openai import OpenAIEngine, OpenAISettings
from themis_judge.engines.openai_logprobs import LabelReader, tokens_of

KEY = "sk-very-secret-0123456789"
PROMPT = Prompt((), "Rate this.\n", "Overall rating: [[")
FIVE = Labels(("1", "2", "3", "4", "5"))
TEN = Labels(tuple(str(rating) for rating in range(1, 11)))


# ------------------------------------------------------------------------------------------------- the endpoint


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    body: Any = None  # bytes go out as they are
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[Request], Awaitable[Reply]]


class Endpoint:
    """Speaks enough HTTP/1.1; `script` answers what isn't GET /models."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.models = Reply({"data": []})
        self.requests: list[Request] = []
        self.at_once = self.most_at_once = 0
        self.reached = asyncio.Event()
        self.left = asyncio.Event()  # a client closed its connection before it had its answer
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await _head(reader):
                first, *lines = head.decode().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Request(method, path, headers, json.loads(content) if content else None)
                reply = await self.answer(request, reader)
                if reply is None:
                    return
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
                writer.write(f"HTTP/1.1 {reply.status} X\r\n{extra}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
                await writer.drain()
        finally:
            writer.close()

    async def answer(self, request: Request, reader: asyncio.StreamReader) -> Reply | None:
        if request.path.endswith("/models"):
            return self.models
        self.requests.append(request)
        self.reached.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        work = asyncio.ensure_future(self.script(request))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        self.at_once -= 1
        if not work.done():
            work.cancel()
            self.left.set()
            return None
        gone.cancel()
        await asyncio.wait({gone})
        return work.result()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def endpoint(*replies: Reply | Script) -> AsyncIterator[Endpoint]:
    """Answers in turn with `replies`, the last again and again."""

    async def script(request: Request) -> Reply:
        reply = replies[min(len(here.requests), len(replies)) - 1]
        return reply if isinstance(reply, Reply) else await reply(request)

    here = Endpoint(script)
    server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
    here.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield here
    finally:
        server.close()
        await asyncio.sleep(0.01)  # let connections see their end


class Waits:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@asynccontextmanager
async def engine_at(
    url: str, *, waits: Waits | None = None, random: float = 1.0, wall: float = 0.0, **settings: Any
) -> AsyncIterator[OpenAIEngine]:
    chosen = OpenAISettings(**{"base_url": url, "model": "teacher", "api_key": KEY, **settings})
    if waits is None:
        engine = OpenAIEngine(chosen, random=lambda: 0.0)
    else:
        engine = OpenAIEngine(chosen, sleep=waits.sleep, clock=waits.clock, wall=lambda: wall, random=lambda: random)
    await engine.load()
    try:
        yield engine
    finally:
        await engine.unload()


async def hang(request: Request) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError("never")


# ------------------------------------------------------------------------------------------------- its answers

Position = tuple[str, Mapping[str, float]]  # the written token; probabilities of what might have stood there


def lead(*tokens: str) -> list[Position]:
    return [(token, {token: 0.99, "x": 0.01}) for token in tokens]


START = lead("Overall", " rating", ":", " [[")


def chat_logprobs(positions: Sequence[Position]) -> dict[str, Any]:
    def entry(token: str, probability: float) -> dict[str, Any]:
        return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}

    return {
        "content": [
            entry(token, top[token]) | {"top_logprobs": [entry(other, p) for other, p in top.items()]}
            for token, top in positions
        ]
    }


def chat(text: str, logprobs: Any = None, finish_reason: str = "stop", usage: Any = None) -> Reply:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}
    return Reply({"choices": [choice], "usage": usage})


def said(*positions: Position, finish_reason: str = "stop") -> Reply:
    return chat("".join(token for token, _ in positions), chat_logprobs(positions), finish_reason)


def completion(*positions: Position) -> Reply:
    logprobs = {
        "tokens": [token for token, _ in positions],
        "token_logprobs": [math.log(top[token]) for token, top in positions],
        "top_logprobs": [{other: math.log(p) for other, p in top.items()} for _, top in positions],
    }
    text = "".join(token for token, _ in positions)
    return Reply({"choices": [{"text": text, "logprobs": logprobs, "finish_reason": "length"}]})


OK = chat("Overall rating: [[4]]")


async def ask(reply: Reply, labels: Labels = FIVE, **settings: Any) -> tuple[list[float] | None, int | None]:
    """(probabilities rounded, chosen)."""
    async with endpoint(reply) as server, engine_at(server.url, **settings) as engine:
        scores = await engine.label_logprobs(PROMPT, labels)
    if scores.logprobs is None:
        return None, scores.chosen
    return [round(math.exp(logprob), 6) for logprob in scores.logprobs], scores.chosen


# ------------------------------------------------------------------------------------------------------- labels

RATED = {"4": 0.6, "5": 0.3, "3": 0.05, "N": 0.01}


async def test_reads_probabilities_where_the_label_begins() -> None:
    async with endpoint(said(*START, ("4", RATED), *lead("]]"))) as server, engine_at(server.url) as engine:
        seam: Engine = engine
        scores = await seam.label_logprobs(PROMPT, FIVE)
        request = server.requests[0]
    assert scores.logprobs is not None
    assert scores.logprobs[:2] == (-math.inf, -math.inf)
    assert [math.exp(logprob) for logprob in scores.logprobs[2:]] == pytest.approx([0.05, 0.6, 0.3])
    assert scores.chosen is None
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "teacher",
        "messages": [{"role": "user", "content": "Rate this.\n"}],
        "max_tokens": 23,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 20,
    }


@pytest.mark.parametrize(
    "positions",
    [
        [
            *lead("Overall", " rating", ":"),
            (" [[4", {" [[4": 0.6, " [[5": 0.3, " [[3": 0.05, " [[": 0.02, " ((5": 0.01}),
            *lead("]]"),
        ],
        [*lead("Overall", " rating", ": ["), ("[4]]", {"[4]]": 0.6, "[5": 0.3, "[3]": 0.05, "[4.": 0.01})],
        [*lead("**", "Overall", " rating:", " [["), (" 4", {" 4": 0.4, "4": 0.2, "5": 0.3, " 3": 0.05}), *lead("]]**")],
        [*lead(" [["), ("4", RATED), *lead("]]")],
        [("4", RATED)],
        [*START, ("4", RATED), *lead("]]\n", "Strengths", ":")],
    ],
    ids=["bracket-and-label", "bracket-label-bracket", "space-and-label", "no-words", "label-alone", "more-after"],
)
async def test_tokens_may_straddle_the_label(positions: list[Position]) -> None:
    assert await ask(said(*positions)) == ([0.0, 0.0, 0.05, 0.6, 0.3], None)


async def test_a_written_token_outside_the_alternatives_counts() -> None:
    logprobs = chat_logprobs([*START, ("4", RATED), *lead("]]")])
    logprobs["content"][4]["top_logprobs"] = logprobs["content"][4]["top_logprobs"][1:]
    assert await ask(chat("Overall rating: [[4]]", logprobs)) == ([0.0, 0.0, 0.05, 0.6, 0.3], None)


async def test_an_answer_that_is_no_label_still_tells_how_little_mass_the_labels_have() -> None:
    positions = [*START, ("N", {"N": 0.9, "4": 0.01, "5": 0.02}), *lead("/A", "]]")]
    assert await ask(said(*positions)) == ([0.0, 0.0, 0.0, 0.01, 0.02], None)


async def test_minus_9999_is_nothing() -> None:
    logprobs = chat_logprobs([*START, ("4", RATED), *lead("]]")])
    logprobs["content"][4]["top_logprobs"].append({"token": "1", "logprob": -9999.0, "bytes": None})
    read, _ = LabelReader("Overall rating: [[", FIVE.texts).read(
        "Overall rating: [[4]]", tokens_of(logprobs), cut=False
    )
    assert read is not None
    assert read[:2] == (-math.inf, -math.inf)


class TestDigitSplitTen:
    async def test_what_follows_the_one_decides(self) -> None:
        one = ("1", {"1": 0.5, "9": 0.3, "8": 0.2})
        ten = said(*START, one, ("0", {"0": 0.8, "]]": 0.15, "]": 0.05}), *lead("]]"))
        assert await ask(ten, TEN) == ([0.1, 0, 0, 0, 0, 0, 0, 0.2, 0.3, 0.4], None)
        just_one = said(*START, one, ("]]", {"0": 0.2, "]]": 0.8}))
        assert await ask(just_one, TEN) == ([0.4, 0, 0, 0, 0, 0, 0, 0.2, 0.3, 0.1], None)

    async def test_an_ambiguous_one_beside_the_path_leaves_the_label_alone(self) -> None:
        reply = said(*START, ("9", {"9": 0.6, "1": 0.3, "8": 0.1}), *lead("]]"))
        assert await ask(reply, TEN) == (None, 8)

    async def test_a_negligible_one_is_left_out_of_both(self) -> None:
        reply = said(*START, ("9", {"9": 0.6, "1": 0.004, "8": 0.1}), *lead("]]"))
        assert await ask(reply, TEN) == ([0, 0, 0, 0, 0, 0, 0, 0.1, 0.6, 0], None)

    async def test_a_token_for_ten_makes_one_a_label_of_its_own(self) -> None:
        reply = said(*START, ("9", {"9": 0.6, "1": 0.3, "10": 0.1}), *lead("]]"))
        assert await ask(reply, TEN) == ([0.3, 0, 0, 0, 0, 0, 0, 0, 0.6, 0.1], None)

    async def test_a_terminator_within_the_token_settles_it(self) -> None:
        reply = said(*START, ("9]]", {"9]]": 0.6, "1]]": 0.3, "10]": 0.1}))
        assert await ask(reply, TEN) == ([0.3, 0, 0, 0, 0, 0, 0, 0, 0.6, 0.1], None)

    async def test_an_answer_that_ends_after_the_one_is_one_without_probabilities(self) -> None:
        assert await ask(said(*START, ("1", {"1": 0.9, "9": 0.1})), TEN) == (None, 0)

    async def test_an_answer_cut_after_the_one_is_neither(self) -> None:
        assert await ask(said(*START, ("1", {"1": 0.9, "9": 0.1}), finish_reason="length"), TEN) == (None, None)
        assert await ask(chat("Overall rating: [[1", None, "length"), TEN) == (None, None)


async def test_labels_of_several_tokens_are_followed() -> None:
    labels = Labels(("close_qa", "close_call", "math"))
    positions: list[Position] = [
        *START,
        ("close", {"close": 0.8, "math": 0.2}),
        ("_", {"_": 0.9, "-": 0.1}),
        ("qa", {"qa": 0.75, "call": 0.25}),
        *lead("]]"),
    ]
    assert await ask(said(*positions), labels) == ([0.54, 0.18, 0.2], None)
    positions[4] = ("math", {"close": 0.4, "math": 0.6})
    assert await ask(said(*positions[:5], *lead("]]")), labels) == (None, 2)


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"tokens": []}])
async def test_without_log_probabilities_the_text_decides(logprobs: Any) -> None:
    assert await ask(chat("Overall rating: [[4]]", logprobs)) == (None, 3)


async def test_without_alternatives_the_text_decides() -> None:
    assert await ask(said(*lead("Overall rating", ": [["), ("4", {"4": 0.9}), *lead("]]"))) == (None, 3)


async def test_tokens_that_do_not_say_the_text_prove_nothing() -> None:
    ids = chat_logprobs([("token_id:17", {"token_id:17": 0.9, "token_id:18": 0.1})])
    assert await ask(chat("Overall rating: [[4]]", ids)) == (None, 3)
    hidden = chat_logprobs([*START, ("2", {"2": 0.9, "3": 0.1}), *lead("]]")])
    assert await ask(chat("Overall rating: [[4]]", hidden)) == (None, 3)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("Overall rating: [[4]]\nStrengths:", 3),
        ("Sure. Overall rating: [[ 4 ]]", 3),
        ("Overall rating:  [[4]]", None),
        ("[[4]]", 3),
        ("4", 3),
        ("4]]", 3),
        (" 4\nStrengths:", 3),
        ("Overall rating: [[4.5]]", None),
        ("Overall rating: [[45]]", None),
        ("Overall rating: [[4 or 5]]", None),
        ("Overall rating: [[6]]", None),
        ("Overall rating: [[", None),
        ("1. The response is good", None),
        ("4 of 5", None),
        ("I can't rate this.", None),
        ("", None),
        (None, None),
    ],
)
async def test_reads_the_text_and_invents_nothing(text: Any, chosen: int | None) -> None:
    assert await ask(chat(text)) == (None, chosen)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("Kind: math", 0),
        ("Kind: maths", None),
        ("Kind: math.", 0),
        ("Kind: math-like", None),
        ("Kind: a b, I say", 1),
        ("math is fun", None),
    ],
)
def test_without_a_bracket_the_word_must_end(text: str, chosen: int | None) -> None:
    assert LabelReader("Kind: ", ("math", "a b")).parse(text.encode(), cut=False) == chosen


async def test_completions_begin_with_the_label() -> None:
    reply = completion(("4", RATED), *lead("]]", "\n", "Strengths"))
    async with endpoint(reply) as server, engine_at(server.url, api="completions", top_logprobs=5) as engine:
        scores = await engine.label_logprobs(PROMPT, FIVE)
        request = server.requests[0]
    assert scores.logprobs is not None
    assert [math.exp(logprob) for logprob in scores.logprobs[2:]] == pytest.approx([0.05, 0.6, 0.3])
    assert request.path == "/v1/completions"
    assert request.body == {
        "model": "teacher",
        "prompt": "Rate this.\n\n\nOverall rating: [[",
        "max_tokens": 5,
        "temperature": 0.0,
        "logprobs": 5,
    }


async def test_asks_for_no_log_probabilities_when_told_so() -> None:
    async with endpoint(OK) as server:
        async with engine_at(
            server.url, top_logprobs=0, extra_body={"chat_template_kwargs": {"think": False}}
        ) as engine:
            assert (await engine.label_logprobs(PROMPT, FIVE)).chosen == 3
        body = server.requests[0].body
    assert "logprobs" not in body
    assert "top_logprobs" not in body
    assert body["chat_template_kwargs"] == {"think": False}


# ----------------------------------------------------------------------------------------------------- generate


async def test_generates() -> None:
    usage = {"prompt_tokens": 40, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 32}}
    sampling = Sampling(50, temperature=0.7, seed=3, stop=("\n\n",), grammar='root ::= "x"')
    waits = Waits()
    async with endpoint(chat("Overall rating: [[4]]\nStrengths:", None, "length", usage)) as server:
        async with engine_at(server.url, waits=waits) as engine:
            generation = await engine.generate(PROMPT, sampling)
        body = server.requests[0].body
    assert (generation.text, generation.cut) == ("4]]\nStrengths:", True)
    took = generation.usage
    assert (took.prompt_tokens, took.cached_tokens, took.completion_tokens) == (40, 32, 7)
    assert body == {
        "model": "teacher",
        "messages": [{"role": "user", "content": "Rate this.\n"}],
        "max_tokens": 50,
        "temperature": 0.7,
        "seed": 3,
        "stop": ["\n\n"],
    }


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("guided_grammar", {"guided_grammar": "root ::= x"}),
        ("structured_outputs.grammar", {"structured_outputs": {"grammar": "root ::= x"}}),
    ],
)
async def test_sends_a_grammar_where_the_endpoint_takes_one(name: str, sent: dict[str, Any]) -> None:
    async with endpoint(chat("x")) as server, engine_at(server.url, grammar_field=name) as engine:
        generation = await engine.generate(PROMPT, Sampling(5, grammar="root ::= x"))
        body = server.requests[0].body
    assert (generation.text, generation.cut) == ("x", False)
    assert sent.items() <= body.items()


async def test_generates_with_completions() -> None:
    reply = Reply({"choices": [{"text": "4]]", "finish_reason": "stop"}]})
    async with endpoint(reply) as server:
        async with engine_at(server.url, api="completions", max_tokens_field="max_new", separator="\n") as engine:
            generation = await engine.generate(PROMPT, Sampling(5))
        body = server.requests[0].body
    assert generation.text == "4]]"
    assert (body["prompt"], body["max_new"]) == ("Rate this.\n\nOverall rating: [[", 5)


async def test_tells_no_log_likelihood() -> None:
    engine = OpenAIEngine(OpenAISettings("http://127.0.0.1:1/v1", "teacher"))
    with pytest.raises(Unsupported):
        await engine.loglikelihood(PROMPT, (1, 2))
    assert (engine.tokenizer, engine.failure) == (None, None)
    assert (engine.info.name, engine.info.model, engine.info.context_tokens) == ("openai", "teacher", 32768)


# ------------------------------------------------------------------------------------------------------ retries


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"Retry-After": "7"}, 7.5),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:00 GMT"}, 20.5),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:01 -0000"}, 0.5),
        ({"Retry-After": "9", "retry-after-ms": "1500"}, 2.0),
        ({"Retry-After": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
async def test_waits_as_long_as_the_endpoint_asks(headers: dict[str, str], waited: float) -> None:
    waits = Waits()
    async with endpoint(Reply({}, 429, headers), OK) as server, engine_at(server.url, waits=waits, wall=40.0) as engine:
        scores = await engine.label_logprobs(PROMPT, FIVE)
    assert waits.slept == [waited]
    assert scores.chosen == 3
    assert scores.usage.queued_s == waited
    assert scores.usage.computed_s == 0.0


async def test_backs_off_with_full_jitter_and_gives_up() -> None:
    waits = Waits()
    async with endpoint(Reply({"error": {"message": "slow down"}}, 429)) as server:
        async with engine_at(server.url, waits=waits, random=0.5, backoff_base_s=1.0, backoff_cap_s=3.0) as engine:
            with pytest.raises(EngineOverloaded, match="slow down") as caught:
                await engine.label_logprobs(PROMPT, FIVE)
        assert len(server.requests) == 5
    assert waits.slept == [0.5, 1.0, 1.5, 1.5]
    assert caught.value.retry_after_s == 3.0


async def test_overload_passes_on_what_the_endpoint_asks() -> None:
    waits = Waits()
    async with endpoint(Reply({}, 429, {"Retry-After": "600"})) as server, engine_at(server.url, waits=waits) as engine:
        with pytest.raises(EngineOverloaded) as caught:
            await engine.label_logprobs(PROMPT, FIVE)
    assert (waits.slept, caught.value.retry_after_s) == ([], 600.0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_errors_are_tried_again(status: int) -> None:
    waits = Waits()
    oops = Reply(b"oops", status)
    async with endpoint(oops, oops, OK) as server, engine_at(server.url, waits=waits) as engine:
        assert (await engine.label_logprobs(PROMPT, FIVE)).chosen == 3
    assert len(waits.slept) == 2


async def test_server_errors_without_end_are_unavailable() -> None:
    waits = Waits()
    async with endpoint(Reply(b"oops", 503)) as server, engine_at(server.url, waits=waits, attempts=3) as engine:
        with pytest.raises(EngineUnavailable, match="answered 503: oops"):
            await engine.label_logprobs(PROMPT, FIVE)
        assert engine.failure is None
        assert len(server.requests) == 3


async def test_no_retry_past_the_deadline() -> None:
    waits = Waits()
    async with endpoint(Reply({}, 429, {"Retry-After": "5"})) as server, engine_at(server.url, waits=waits) as engine:
        with pytest.raises(EngineOverloaded):
            await engine.label_logprobs(PROMPT, FIVE, Deadline(waits.now_s + 4.0))
        assert (waits.slept, len(server.requests)) == ([], 1)


async def test_a_lost_connection_is_tried_again() -> None:
    lost = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        head = await _head(reader)
        if b"/models" in head:
            writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            lost += 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    waits = Waits()
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with engine_at(url, waits=waits, attempts=3) as engine:
            with pytest.raises(EngineUnavailable, match="no answer from http://127"):
                await engine.generate(PROMPT, Sampling(5))
    assert (lost, len(waits.slept)) == (3, 2)


async def test_a_slow_answer_is_given_up_and_tried_again() -> None:
    async with endpoint(hang, OK) as server, engine_at(server.url, timeout_s=0.3) as engine:
        assert (await engine.label_logprobs(PROMPT, FIVE)).chosen == 3
        assert len(server.requests) == 2


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
        "The prompt (total length 25938) is too long to fit into the model",
        "the request exceeds the available context size",
        "max_tokens must be at least 1, got -186.",
    ],
)
async def test_a_prompt_beyond_the_context(message: str) -> None:
    async with endpoint(Reply({"error": {"message": message}}, 400)) as server, engine_at(server.url) as engine:
        with pytest.raises(PromptTooLong):
            await engine.label_logprobs(PROMPT, FIVE)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"error": {"message": "logprobs is not supported"}}, "logprobs is not supported"),
        (401, {"error": {"message": f"Incorrect API key: {KEY[:9]}***"}}, "check api_key"),
        (403, {}, "api_key may do"),
        (404, {"error": "no model teacher"}, "no model teacher.*check base_url.*model"),
        (418, {"error": f"{KEY}?"}, r"418: .*\*\*\*\?"),
    ],
)
async def test_other_refusals_say_what_to_fix_and_never_the_key(
    status: int, body: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # vLLM, if other tests loaded it, has made it quiet
    async with endpoint(Reply(body, status)) as server, engine_at(server.url) as engine:
        with pytest.raises(EngineError, match=told) as caught:
            await engine.label_logprobs(PROMPT, FIVE)
        assert type(caught.value) is EngineError
        assert len(server.requests) == 1
        assert server.requests[0].headers["authorization"].endswith(KEY)
        assert KEY[:9] not in repr(caught.value) + repr(engine) + repr(engine._settings) + caplog.text
    assert "HTTP Request" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff\xfe{",
        [],
        {},
        {"choices": []},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"message": {"content": "4"}, "logprobs": {"content": [{"token": "4"}]}}]},
        {"choices": [{"message": {"content": "4"}, "logprobs": {"content": "4"}}]},
        {"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": "many"}},
    ],
)
async def test_a_malformed_body(body: Any) -> None:
    async with endpoint(Reply(body)) as server, engine_at(server.url) as engine:
        with pytest.raises(EngineError, match="answered what is no completion") as caught:
            await engine.label_logprobs(PROMPT, FIVE)
        assert type(caught.value) is EngineError


async def test_nothing_is_asked_after_the_deadline() -> None:
    async with endpoint(OK) as server, engine_at(server.url) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.label_logprobs(PROMPT, FIVE, Deadline.after(-1.0))
        assert server.requests == []


async def test_a_hanging_endpoint_ends_at_the_deadline() -> None:
    async with endpoint(hang) as server, engine_at(server.url) as engine:
        with pytest.raises(DeadlineExceeded):
            await engine.label_logprobs(PROMPT, FIVE, Deadline.after(0.1))
        await asyncio.wait_for(server.left.wait(), 5.0)


async def test_cancelling_closes_the_connection_and_frees_the_slot() -> None:
    async with endpoint(hang, OK) as server, engine_at(server.url, concurrency=1) as engine:
        call = asyncio.ensure_future(engine.label_logprobs(PROMPT, FIVE))
        await server.reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(server.left.wait(), 5.0)
        assert (await engine.label_logprobs(PROMPT, FIVE)).chosen == 3


async def test_never_more_at_once_than_allowed_and_waiting_is_queueing() -> None:
    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.03)
        return OK

    async with endpoint(slow) as server, engine_at(server.url, concurrency=3) as engine:
        calls = [engine.label_logprobs(PROMPT, FIVE) for _ in range(12)]
        scores = await asyncio.gather(*calls)
        assert (server.most_at_once, len(server.requests)) == (3, 12)
    queued = sorted(score.usage.queued_s for score in scores)
    assert queued[0] < 0.03 < 0.08 < queued[-1]
    assert all(score.usage.computed_s >= 0.02 for score in scores)


async def test_the_deadline_holds_while_queueing() -> None:
    async with endpoint(hang) as server, engine_at(server.url, concurrency=1) as engine:
        first = asyncio.ensure_future(engine.label_logprobs(PROMPT, FIVE))
        await server.reached.wait()
        with pytest.raises(DeadlineExceeded):
            await engine.label_logprobs(PROMPT, FIVE, Deadline.after(0.05))
        assert len(server.requests) == 1
        first.cancel()
        await asyncio.wait({first})


# --------------------------------------------------------------------------------------------- load and settings


async def test_load_tells_an_endpoint_that_is_not_there() -> None:
    async with endpoint(OK) as server:
        url = server.url
    engine = OpenAIEngine(OpenAISettings(url, "teacher"))
    with pytest.raises(EngineUnavailable, match=f"no answer from {url}"):
        await engine.load()
    with pytest.raises(EngineUnavailable, match="not loaded"):
        await engine.label_logprobs(PROMPT, FIVE)


@pytest.mark.parametrize(("status", "error"), [(401, EngineError), (503, EngineUnavailable), (404, None), (200, None)])
async def test_load_looks_at_the_answer(status: int, error: type[EngineError] | None) -> None:
    async with endpoint(OK) as server:
        server.models = Reply({}, status)
        engine = OpenAIEngine(OpenAISettings(server.url, "teacher", api_key=KEY))
        if error is not None:
            with pytest.raises(error) as caught:
                await engine.load()
            assert type(caught.value) is error
            return
        await engine.load()
        await engine.load()
        assert (await engine.label_logprobs(PROMPT, FIVE)).chosen == 3
        assert "authorization" in server.requests[0].headers
        await engine.unload()
        await engine.unload()
        with pytest.raises(EngineUnavailable):
            await engine.label_logprobs(PROMPT, FIVE)


async def test_without_a_key_no_header_is_sent() -> None:
    async with endpoint(OK) as server, engine_at(server.url, api_key="") as engine:
        await engine.label_logprobs(PROMPT, FIVE)
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://host/v1"},
        {"base_url": "host:8000"},
        {"base_url": f"https://user:{KEY}@host/v1"},
        {"base_url": f"https://host/v1?key={KEY}"},
        {"api": "responses"},
        {"api_key": f"{KEY}\n"},
        {"concurrency": 0},
        {"attempts": 0},
        {"timeout_s": 0.0},
        {"top_logprobs": -1},
        {"backoff_base_s": -1.0},
    ],
)
def test_settings_refuse_what_can_not_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        OpenAISettings(**{"base_url": "http://host/v1", "model": "teacher", **wrong})
    assert KEY not in str(caught.value)
