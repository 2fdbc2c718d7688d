"""What becomes of an answer: whole texts, and everything that isn't one, from a real endpoint."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.pipeline.llm_endpoint import Behaviour, Drip, Drop, Reply, Reset, Silence, answer, misbehaving, refusal
from tests.unit.pipeline.llm_parts import asked, near, put_together
from themis_pipeline.llm.answers import read_answer
from themis_pipeline.llm.calls import Completion, Message, Request
from themis_pipeline.llm.errors import (
    CutShort,
    EmptyAnswer,
    EndpointUnavailable,
    LLMError,
    NoText,
    Refused,
    Withheld,
)
from themis_pipeline.llm.journal import Entry

SECRET = "sk-secret-key"
PROMPT = "a prompt that nobody may read"

NO_ANSWERS: dict[str, tuple[Behaviour, str, bool]] = {
    "drop": (Drop(), "broken_off", True),
    "reset": (Reset(), "broken_off", True),
    "half": (Reply(answer("yes").body[:40], promised=4000), "broken_off", True),
    "silence": (Silence(), "timeout", True),
    "drip": (Drip(), "timeout", True),
    "garbage": (Reply(b"<html>busy</html>"), "garbage", True),
    "half_json": (Reply(answer("yes").body[:40]), "garbage", True),
    "no_choice": (Reply(b'{"choices": [], "usage": {}}'), "garbage", True),
    "no_usage": (Reply(b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'), "garbage", True),
    "no_finish": (answer("yes", None), "garbage", True),  # type: ignore[arg-type]
    "new_finish": (answer("yes", "paused"), "garbage", True),
    "no_text": (answer(["yes"]), "garbage", True),  # type: ignore[arg-type]
    "minus": (answer("yes", prompt=-1), "garbage", True),
    "absurd": (answer("yes", completion=10**30), "garbage", True),
    "more_than_floats": (answer("yes", completion=10**400), "garbage", True),
    "surrogate": (answer("yes \ud800"), "garbage", True),
    "deep": (Reply(b"[" * 100_000), "garbage", True),
    "error_500": (Reply(b"oops", 500), "status_500", False),
    "error_504": (refusal(504), "status_504", True),
    "error_long": (Reply(b" " * 300_000, 503), "status_503", False),
    "error_503": (refusal(503), "status_503", False),
}


def _timeout_s(case: str, short_s: float = 0.3) -> float:
    return short_s if case in ("silence", "drip") else 30.0


async def test_a_whole_text_comes_with_what_it_took(tmp_path: Path) -> None:
    with misbehaving(answer("yes", prompt=10, completion=5)) as server:
        async with put_together(tmp_path, near(server.url, api_key=SECRET)) as parts:
            request = Request(
                "near", (Message("system", "Be brief."), Message("user", "Yes?")), 20, 0.7, seed=3, stop=("\n",)
            )
            completion = await parts.llm.complete(request, parts.context())
    assert (completion.text, completion.finish, completion.model) == ("yes", "stop", "served-model")
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cost_micros) == (10, 5, 20)
    assert not completion.from_journal
    assert server.headers[0]["authorization" if "authorization" in server.headers[0] else "Authorization"].endswith(
        SECRET
    )
    assert server.bodies == [
        {
            "model": "asked-model",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Yes?"}],
            "temperature": 0.7,
            "max_tokens": 20,
            "seed": 3,
            "stop": ["\n"],
        }
    ]
    assert (parts.totals.paid, parts.totals.cost_micros, parts.totals.unsure) == (1, 20, 0)


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_what_is_no_answer_is_asked_again_and_then_an_error(tmp_path: Path, case: str) -> None:
    behaviour, how, billed = NO_ANSWERS[case]
    with misbehaving(behaviour) as server:
        async with put_together(
            tmp_path, near(server.url, attempts=2, timeout_s=_timeout_s(case), max_answer_bytes=250_000)
        ) as parts:
            with pytest.raises(EndpointUnavailable) as raised:
                await parts.llm.complete(asked(PROMPT), parts.context())
            most = near(server.url).most_micros(asked(PROMPT))
    assert server.calls == 2
    assert parts.totals.attempts == {how: 2}
    assert parts.totals.answers == {"EndpointUnavailable": 1}
    assert (parts.totals.unsure, parts.totals.unsure_micros) == ((2, 2 * most) if billed else (0, 0))
    assert raised.value.retry_after_s >= 0
    # What may be billed counts as spent; what can't be is given back.
    assert parts.ledger.taken("budget-all") == (parts.totals.unsure_micros,)


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_the_attempt_after_a_bad_one_is_used(tmp_path: Path, case: str) -> None:
    behaviour, _, _ = NO_ANSWERS[case]
    with misbehaving(behaviour, answer("yes")) as server:
        async with put_together(tmp_path, near(server.url, timeout_s=_timeout_s(case, 2.0))) as parts:
            assert (await parts.llm.complete(asked(), parts.context())).text == "yes"
    assert server.calls == 2
    assert parts.totals.answers == {"text": 1}


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (answer("as far as it we", "length"), CutShort, "as far as it we"),
        (answer("", "length"), CutShort, ""),
        (answer("", "content_filter"), Withheld, ""),
        (answer(None, "stop", refusal="I can't."), Withheld, ""),
        (answer(None), EmptyAnswer, ""),
        (answer(" \n"), EmptyAnswer, " \n"),
        (answer(None, "tool_calls"), EmptyAnswer, ""),
    ],
)
async def test_an_answer_without_a_whole_text_is_an_outcome_and_paid_once(
    tmp_path: Path, reply: Reply, kind: type[NoText], text: str
) -> None:
    with misbehaving(reply) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            for from_journal in (False, True):
                with pytest.raises(kind) as raised:
                    await parts.llm.complete(asked(), parts.context())
                assert raised.value.completion.text == text
                assert raised.value.completion.from_journal is from_journal
                assert raised.value.completion.cost_micros == 20
            with pytest.raises(kind):
                await parts.llm.complete(asked(), parts.context(index=1))
    assert server.calls == 2
    assert parts.totals.answers == {kind.__name__: 3}
    assert parts.totals.paid == 2


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_that_is_wrong_is_asked_once(tmp_path: Path, status: int) -> None:
    with misbehaving(refusal(status, "context_length_exceeded", PROMPT)) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            with pytest.raises(Refused, match=rf"^near: answered {status} \(context_length_exceeded\)$"):
                await parts.llm.complete(asked(PROMPT), parts.context())
    assert server.calls == 1
    assert parts.ledger.taken("budget-all") == (0,)


@pytest.mark.parametrize(
    "reply", [refusal(401), refusal(403), refusal(404), refusal(429, "insufficient_quota"), Reply(status=307)]
)
async def test_an_endpoint_that_is_set_up_wrongly_condemns_no_input(tmp_path: Path, reply: Reply) -> None:
    with misbehaving(reply) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            with pytest.raises(EndpointUnavailable):
                await parts.llm.complete(asked(), parts.context())
    assert server.calls == 1


async def test_an_answer_without_an_end_is_let_go(tmp_path: Path) -> None:
    with misbehaving(Reply(b" " * 5000)) as server:
        async with put_together(tmp_path, near(server.url, max_answer_bytes=4000)) as parts:
            with pytest.raises(Refused, match="more than 4000 bytes"):
                await parts.llm.complete(asked(), parts.context())
    assert server.calls == 1


async def test_nobody_there_is_told_and_costs_nothing(tmp_path: Path) -> None:
    with misbehaving(answer("yes")) as server:
        pass
    async with put_together(tmp_path, near(server.url, attempts=3)) as parts:
        with pytest.raises(EndpointUnavailable):
            await parts.llm.complete(asked(), parts.context())
    assert parts.totals.attempts == {"unreachable": 3}
    assert parts.ledger.taken("budget-all") == (0,)


async def test_an_endpoint_that_takes_no_connections_costs_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as callers:
        for _ in range(4):  # beyond what its backlog holds, the kernel lets callers wait
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with put_together(tmp_path, near(url, attempts=1, timeout_s=1.0)) as parts:
            with pytest.raises(EndpointUnavailable):
                await parts.llm.complete(asked(), parts.context())
    assert parts.totals.attempts == {"unreachable": 1}
    assert parts.ledger.taken("budget-all") == (0,)


def test_nothing_that_is_shown_holds_a_text() -> None:
    entry = Entry("input-1", "label", 0, "digest", PROMPT, "stop", "near", "served", 10, 5, 20)
    completion = Completion(PROMPT, "stop", "near", "served", 10, 5, 20)
    for shown in (asked(PROMPT), entry, completion, read_answer(answer(PROMPT).body, "asked-model")):
        assert PROMPT not in repr(shown)


@pytest.mark.parametrize("case", [*NO_ANSWERS, "told_400", "told_401", "told_429"])
async def test_no_error_repeats_prompt_key_or_answer(tmp_path: Path, case: str) -> None:
    body = json.dumps({"error": {"code": f"bad key {SECRET}", "message": f"{PROMPT} {SECRET}"}}).encode()
    told: Behaviour = Reply(body, int(case[5:])) if case.startswith("told_") else NO_ANSWERS[case][0]
    with misbehaving(told) as server:
        endpoint = near(server.url, attempts=1, timeout_s=_timeout_s(case), api_key=SECRET)
        async with put_together(tmp_path, endpoint) as parts:
            with pytest.raises(LLMError) as raised:
                await parts.llm.complete(asked(PROMPT), parts.context())
            assert SECRET not in repr(endpoint)
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        assert PROMPT not in str(error)
        assert "busy" not in str(error)
        error = error.__cause__
