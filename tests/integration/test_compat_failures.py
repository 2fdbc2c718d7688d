"""Reward calls by HTTP that fail: each has a status, a field where one is to blame, and never a number."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.compat_serving import PROMPT, Compat, ReadingJudge, compat, error, rewards
from tests.integration.observe_serving import at
from tests.integration.security_parts import entry, until, write_callers
from tests.integration.sidecar_fakes import VERSION, item, make_config
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import CompatConfig, HttpConfig, LogConfig
from themis_sidecar.http.compat.endpoint import TIMEOUT
from themis_sidecar.http.compat.endpoint import VERSION as VERSION_HEADER
from themis_sidecar.logs import make_logger
from themis_sidecar.observe.telemetry import Telemetry
from themis_sidecar.versions.assembly import Fixed

CANARY = "canary-77aa"
GOOD = {"prompt": PROMPT, "response": "good<|im_end|>", "label": None}


@pytest.mark.parametrize(
    ("path", "sent", "field"),
    [
        ("/get_reward", {"prompts": [], "labels": []}, "query"),
        ("/get_reward", {"query": "x", "prompts": [], "labels": []}, "query"),
        ("/get_reward", {"query": [CANARY, 1], "prompts": ["", ""]}, "query[1]"),
        ("/get_reward", {"query": [CANARY]}, "prompts"),
        ("/get_reward", {"query": [CANARY], "prompts": []}, "prompts"),
        ("/get_reward", rewards(CANARY, labels=["a", "b"]), "labels"),
        ("/get_reward", rewards(CANARY, labels=[[4]]), "labels[0]"),
        ("/get_reward", rewards(CANARY, CANARY, labels=["", True]), "labels[1]"),
        ("/rm", {"prompt": PROMPT, "response": CANARY, "label": False}, "label"),
        ("/get_reward", rewards(CANARY, prompt=f"<|im_start|>critic\n{CANARY}"), "prompts[0]"),
        ("/get_reward", {"query": [CANARY], "prompts": [PROMPT]}, "query[0]"),
        ("/get_reward", rewards("good", "invalid"), "prompts[1]"),
        ("/get_reward", rewards("good", "invalid label"), "labels[1]"),
        ("/rm", {"prompt": PROMPT, "response": "invalid<|im_end|>"}, "prompt"),
        ("/rm", {"prompt": PROMPT, "response": "invalid label<|im_end|>"}, "label"),
        ("/get_reward", rewards("good", "long"), "query[1]"),
        ("/rm", {"prompt": PROMPT, "label": None}, "response"),
        ("/rm", {"prompt": 5, "response": CANARY}, "prompt"),
        ("/rm", {"prompt": [{"role": "user"}], "response": CANARY}, "prompt[0].content"),
        ("/rm", {"prompt": [{"role": "user", "content": [CANARY]}], "response": CANARY}, "prompt[0].content"),
        ("/rm", {"prompt": PROMPT, "response": CANARY, "label": {}}, "label"),
        ("/rm", {"prompt": f"{CANARY}", "response": CANARY}, "prompt"),
        ("/rm", {"prompt": PROMPT + CANARY, "response": CANARY}, "prompt"),
        ("/classify", {"model": "m"}, "input"),
        ("/classify", {"input": "x", "messages": []}, "input"),
        ("/classify", {"input": [PROMPT + "good", CANARY]}, "input[1]"),
        ("/classify", {"input": {CANARY: 1}}, "input"),
        ("/classify", {"messages": [{"role": "user", "content": CANARY}]}, "messages"),
        (
            "/classify",
            {"messages": [{"role": "user", "content": CANARY}, {"role": "assistant"}]},
            "messages[1].content",
        ),
        ("/classify", [CANARY], None),
    ],
)
async def test_a_bad_request_names_its_field_and_quotes_nothing(path: str, sent: Any, field: str | None) -> None:
    async with compat() as served:
        answer = await served.post(path, sent)
        assert error(answer) == (400, "INVALID_ARGUMENT", field)
        assert CANARY not in answer.text
        assert CANARY not in served.log.getvalue()


@pytest.mark.parametrize("body", [b"", b"{", b'{"query": [}', b"\xff\xfe", b'{"prompt": "\\ud800"}', b"[" * 100_000])
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    async with compat() as served:
        for path in ("/get_reward", "/rm", "/classify"):
            assert error(await served.http.post(path, content=body))[:2] == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("word", "code", "name", "status"),
    [
        ("off", 422, "FAILED_PRECONDITION", "OFF_FORMAT"),
        ("late", 504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("broken", 503, "UNAVAILABLE", "ENGINE_ERROR"),
        ("unavailable", 503, "UNAVAILABLE", "UNAVAILABLE"),
        ("overloaded", 503, "RESOURCE_EXHAUSTED", "OVERLOADED"),
    ],
)
async def test_one_sample_without_a_score_fails_its_call(word: str, code: int, name: str, status: str) -> None:
    async with compat() as served:
        answer = await served.post("/get_reward", rewards("good", "fair", word))
        assert error(answer) == (code, name, None)
        assert answer.json()["error"]["message"].startswith(f"query[2]: {status}: ")
        assert ("retry-after" in answer.headers) == (name == "RESOURCE_EXHAUSTED")
        samples = await served.samples()
        assert at(samples, "themis_calls_total", method="get_reward", code=name) == 1


async def test_an_empty_reply_fails_its_call_unless_its_score_is_named() -> None:
    sent = rewards("good", "<think>hm", end="")
    async with compat(truncated="ignore") as served:
        answer = await served.post("/get_reward", sent)
        assert error(answer) == (400, "INVALID_ARGUMENT", "query[1]")
        assert "empty" in answer.json()["error"]["message"]
    async with compat(empty_score=0.0, truncated="ignore") as served:
        assert (await served.post("/get_reward", sent)).json()["rewards"] == [1.0, 0.0]
        assert served.judge.started == ["good"]


async def test_overload_is_refused_with_a_time_and_others_go_on() -> None:
    async with compat(limits={"max_queue_tokens": 25}) as served:
        first = asyncio.create_task(served.post("/get_reward", rewards("hold", "hold")))
        await served.judge.until(lambda: len(served.judge.started) == 2)
        answer = await served.post("/rm", GOOD)
        assert error(answer) == (503, "RESOURCE_EXHAUSTED", None)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        served.judge.released.set()
        assert (await first).status_code == 200
        assert (await served.post("/rm", GOOD)).json() == 1.0
        samples = await served.samples()
        assert at(samples, "themis_calls_total", method="rm", code="RESOURCE_EXHAUSTED") == 1


async def test_calls_beyond_the_bound_are_refused_and_probes_answered() -> None:
    async with compat(max_calls=1) as served:
        first = asyncio.create_task(served.post("/rm", GOOD | {"response": "hold<|im_end|>"}))
        await served.judge.until(lambda: served.judge.started == ["hold"])
        assert error(await served.post("/rm", GOOD)) == (503, "RESOURCE_EXHAUSTED", None)
        assert (await served.http.get("/readyz")).status_code == 200
        served.judge.released.set()
        assert (await first).status_code == 200


@pytest.mark.parametrize("how", ["header", "address", "settings"])
async def test_the_time_a_call_may_take_is_kept(how: str) -> None:
    async with compat(timeout_s=0.2 if how == "settings" else 100.0) as served:
        address = "/rm?timeout_s=0.2" if how == "address" else "/rm"
        headers = {TIMEOUT: "0.2"} if how == "header" else {}
        answer = await served.post(address, GOOD | {"response": "hold<|im_end|>"}, headers=headers)
        assert error(answer) == (504, "DEADLINE_EXCEEDED", None)
        await served.judge.until(lambda: served.judge.cancelled == ["hold"])


async def test_the_server_s_own_longest_time_bounds_what_is_asked_for() -> None:
    async with compat(limits={"max_deadline_s": 50.0}) as served:
        for asked in ({TIMEOUT: "1000"}, {TIMEOUT: "inf"}, {}):
            assert (await served.post("/rm", GOOD, headers=asked)).status_code == 200
        assert all(0 < deadline.remaining_s() <= 50.0 for deadline in served.judge.deadlines)


@pytest.mark.parametrize("asked", ["0", "-1", "nan", "soon", ""])
async def test_a_time_that_is_none_is_refused_by_name(asked: str) -> None:
    async with compat() as served:
        assert error(await served.post("/rm", GOOD, headers={TIMEOUT: asked})) == (400, "INVALID_ARGUMENT", TIMEOUT)


async def test_a_client_that_leaves_stops_its_work() -> None:
    async with compat(limits={"max_queue_tokens": 15}) as served:
        leaving = asyncio.create_task(served.post("/rm", GOOD | {"response": "hold<|im_end|>"}))
        await served.judge.until(lambda: served.judge.started == ["hold"])
        leaving.cancel()
        await served.judge.until(lambda: served.judge.cancelled == ["hold"])
        await until(lambda: len(served.lines("call")) == 1)
        assert served.lines("call")[0]["code"] == "CANCELLED"
        assert (await served.post("/rm", GOOD)).json() == 1.0  # its tokens are back in the budget


async def test_a_client_that_sends_half_a_body_is_given_up() -> None:
    async with compat(timeout_s=0.2) as served:
        host, port = served.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'POST /rm HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"prompt": ')
        assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")
        writer.close()
        await writer.wait_closed()
        assert served.lines("call")[0]["code"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_bound_is_refused(announced: bool) -> None:
    async def chunks() -> Any:
        for _ in range(64):
            yield b" " * 1024

    async with compat(max_body_bytes=1024) as served:
        content = b" " * 65_536 if announced else chunks()
        assert error(await served.http.post("/rm", content=content)) == (413, "INVALID_ARGUMENT", None)
        assert (await served.post("/rm", GOOD)).json() == 1.0


async def test_more_samples_than_a_call_may_have_are_refused_by_name() -> None:
    async with compat(limits={"max_items": 2}) as served:
        assert error(await served.post("/get_reward", rewards("a", "b", "c")))[2] == "query"
        assert error(await served.post("/classify", {"input": [PROMPT + "a"] * 3}))[2] == "input"


@pytest.mark.parametrize(
    ("path", "sent", "field"),
    [
        ("/get_reward", rewards("good", "x" * 2000), "query[1]"),
        ("/get_reward", rewards("good", prompt="x" * 2000), "prompts[0]"),
        ("/rm", GOOD | {"prompt": "x" * 2000}, "prompt"),
        ("/rm", GOOD | {"response": "x" * 2000}, "response"),
        ("/rm", GOOD | {"response": "\N{SNOWMAN}" * 800}, "response"),  # too long in bytes alone
        ("/classify", {"input": ["x" * 2000]}, "input[0]"),
    ],
)
async def test_a_sample_beyond_the_bound_is_refused_by_name(path: str, sent: Any, field: str) -> None:
    async with compat(limits={"max_item_bytes": 1000}) as served:
        assert error(await served.post(path, sent)) == (400, "INVALID_ARGUMENT", field)


@pytest.mark.parametrize("how", ["header", "address"])
async def test_a_version_may_be_asked_for(how: str) -> None:
    async def ask(served: Compat, version: str) -> httpx.Response:
        if how == "address":
            return await served.post(f"/rm?version={version}", GOOD)
        return await served.post("/rm", GOOD, headers={VERSION_HEADER: version})

    async with compat() as served:
        assert (await ask(served, VERSION)).json() == 1.0
        answer = await ask(served, "another")
        assert error(answer) == (404, "NOT_FOUND", None)
        assert VERSION in answer.json()["error"]["message"]


async def test_an_unexpected_error_is_an_incident_in_the_log_and_no_text() -> None:
    async with compat() as served:
        answer = await served.post("/rm", GOOD | {"response": f"raise-{CANARY}"})
        assert error(answer) == (500, "INTERNAL", None)
        [line] = served.lines("incident")
        assert line["incident"] in answer.json()["error"]["message"]
        assert CANARY not in answer.text
        assert CANARY not in served.log.getvalue()


@pytest.mark.parametrize("sent", [rewards(), rewards("good")])
async def test_a_server_that_is_not_ready_says_so(sent: Any) -> None:
    async with compat(ready=False) as served:
        assert error(await served.post("/get_reward", sent)) == (503, "UNAVAILABLE", None)
        assert served.judge.started == []


async def test_a_draining_server_finishes_calls_and_takes_no_others() -> None:
    async with compat(limits={"drain_s": 20.0}) as served:
        first = asyncio.create_task(served.post("/rm", GOOD | {"response": "hold<|im_end|>"}))
        await served.judge.until(lambda: served.judge.started == ["hold"])
        draining = asyncio.create_task(served.server.drain())
        await until(lambda: served.server.state.why_closed != "")
        assert error(await served.post("/rm", GOOD)) == (503, "UNAVAILABLE", None)
        served.judge.released.set()
        assert (await first).status_code == 200
        assert await draining


async def test_calls_wait_while_one_judge_is_exchanged_for_another() -> None:
    async with compat() as served:
        served.parts.judging.residents.pause()
        first = asyncio.create_task(served.post("/rm", GOOD))
        await until(lambda: served.parts.judging.holding.calls == 1)
        late = await served.post("/rm", GOOD, headers={TIMEOUT: "0.1"})
        assert error(late) == (504, "DEADLINE_EXCEEDED", None)
        assert served.judge.started == []
        served.parts.judging.residents.resume()
        assert (await first).json() == 1.0


async def test_callers_need_their_token_here_too(tmp_path: Path) -> None:
    callers = write_callers(
        tmp_path / "callers.yaml", entry("trainer", "token-1", limits={"max_calls": 1}), entry("other", "token-2")
    )
    async with compat(callers=callers) as served:
        for sent in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic token-1"}):
            answer = await served.post("/rm", GOOD, headers=sent)
            assert error(answer) == (401, "UNAUTHENTICATED", None)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert len(served.lines("refused")) == 3
        assert served.judge.started == []
        own = {"authorization": "Bearer token-1"}
        assert (await served.post("/rm", GOOD, headers=own)).json() == 1.0
        assert served.lines("call")[-1]["caller"] == "trainer"
        assert "token-1" not in served.log.getvalue()

        first = asyncio.create_task(served.post("/rm", GOOD | {"response": "hold<|im_end|>"}, headers=own))
        await served.judge.until(lambda: "hold" in served.judge.started)
        assert error(await served.post("/rm", GOOD, headers=own)) == (503, "RESOURCE_EXHAUSTED", None)
        other = {"authorization": "Bearer token-2"}
        assert (await served.post("/rm", GOOD, headers=other)).json() == 1.0
        with_grpc = served.stub.Score(
            pb.ScoreRequest(items=[item("a")]), metadata=(("authorization", "Bearer token-1"),)
        )
        with pytest.raises(Exception, match="trainer has 1 calls in flight"):
            await with_grpc  # both ports count the same caller's calls
        served.judge.released.set()
        assert (await first).status_code == 200


async def test_calls_and_items_are_in_the_same_metrics_as_grpc_s() -> None:
    async with compat() as served:
        await served.post("/get_reward", rewards("good", "fair"))
        await served.post("/rm", GOOD)
        await served.post("/classify", {"input": PROMPT + "good"})
        await served.stub.Score(pb.ScoreRequest(items=[item("a")]))
        samples = await served.samples()
        for method, items in (("get_reward", 2), ("rm", 1), ("classify", 1), ("Score", 1)):
            assert at(samples, "themis_calls_total", method=method, code="OK") == 1
            assert at(samples, "themis_items_total", method=method, status="OK", version=VERSION) == items
            assert at(samples, "themis_call_items_sum", method=method) == items
        assert at(samples, "themis_calls_total", method="rm", code="INTERNAL") == 0  # so that the first is a rise
        assert at(samples, "themis_queue_tokens") == 0


async def test_a_trace_goes_on_here() -> None:
    async with compat() as served:
        trace = "0af7651916cd43dd8448eb211c80319c"
        await served.post("/rm", GOOD, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert served.lines("call")[0]["trace_id"] == trace


async def test_there_is_nothing_here_unless_enabled_and_only_post() -> None:
    async with compat() as served:
        assert (await served.http.get("/rm")).status_code == 405
        assert (await served.post("/rm", GOOD)).status_code == 200
    async with compat(enabled=False) as served:
        for path in ("/get_reward", "/rm", "/classify"):
            assert (await served.post(path, GOOD)).status_code == 404
        assert (await served.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("host", "enabled", "warned"), [("0.0.0.0", True, True), ("0.0.0.0", False, False), ("127.0.0.1", True, False)]
)
async def test_a_port_that_lets_everybody_score_is_warned_of(host: str, enabled: bool, warned: bool) -> None:
    http = HttpConfig(host=host, port=0, compat=CompatConfig(enabled=enabled))
    log = io.StringIO()
    config = make_config().model_copy(update={"http": http})
    Fixed.make(ReadingJudge(), config, make_logger(LogConfig(), log), Telemetry.untraced("1.2.3"))
    assert ("unauthenticated" in log.getvalue()) is warned
