"""The HTTP port of a real server: exact counts after known calls, health, the status page, and who may see it."""

from __future__ import annotations

import asyncio
import html
import signal
import socket
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.integration.observe_serving import Observed, ObservedJudge, at, observed
from tests.integration.sidecar_fakes import VERSION, FakeJudge, item, make_config, stream_item
from tests.integration.test_sidecar_process import process
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import EngineConfig, HttpConfig, OpenAIConfig, TracingConfig
from themis_sidecar.http.port import HttpPort

CANARY = "canary-1c0d"


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def known_traffic(served: Observed) -> None:
    """Score: 3 rated, 1 invalid, 1 off format, then an unexpected error and a bad call; a stream of 2; 1 comparison;
    2 classified."""
    await served.serve()
    stub, source = served.stub, item()
    await stub.Score(pb.ScoreRequest(items=[item("a", CANARY), item("b"), item("invalid"), item("off")]))
    await stub.Score(pb.ScoreRequest(items=[item("c")]))
    assert await code_of(stub.Score(pb.ScoreRequest(items=[item("raise", CANARY)]))) is grpc.StatusCode.INTERNAL
    assert await code_of(stub.Score(pb.ScoreRequest())) is grpc.StatusCode.INVALID_ARGUMENT
    stream = stub.StreamScores(iter([pb.StreamScoresRequest(options=pb.ScoreOptions()), *map(stream_item, "xy")]))
    assert len([message async for message in stream]) == 3
    await stub.Compare(
        pb.CompareRequest(
            comparisons=[
                pb.Comparison(messages=source.messages, response_a=source.response, response_b=source.response)
            ]
        )
    )
    await stub.Classify(pb.ClassifyRequest(conversations=[pb.Conversation(messages=source.messages)] * 2))


async def test_a_scrape_after_known_calls_gives_their_counts() -> None:
    async with observed(ObservedJudge()) as served:
        await known_traffic(served)
        samples = await served.samples()
    calls = {
        (dict(labels)["method"], dict(labels)["code"]): value
        for (name, labels), value in samples.items()
        if name == "themis_calls_total" and value
    }
    assert calls == {
        ("Score", "OK"): 2,
        ("Score", "INTERNAL"): 1,
        ("Score", "INVALID_ARGUMENT"): 1,
        ("StreamScores", "OK"): 1,
        ("Compare", "OK"): 1,
        ("Classify", "OK"): 1,
    }
    items = {
        (dict(labels)["method"], dict(labels)["status"]): value
        for (name, labels), value in samples.items()
        if name == "themis_items_total"
    }
    assert items == {
        ("Score", "OK"): 3,
        ("Score", "INVALID"): 1,
        ("Score", "OFF_FORMAT"): 1,
        ("StreamScores", "OK"): 2,
        ("Compare", "OK"): 1,
        ("Classify", "OK"): 2,
    }
    # Five ratings of USAGE; the fake's comparisons and classifications take nothing.
    assert at(samples, "themis_prompt_tokens_total", version=VERSION) == 5 * 40
    assert at(samples, "themis_cached_tokens_total", version=VERSION) == 5 * 10
    assert at(samples, "themis_completion_tokens_total", version=VERSION) == 5 * 2
    assert at(samples, "themis_off_format_total", reason="label_mass", version=VERSION) == 1
    for stage, seconds in (("queued", 0.5), ("tokenised", 0.125), ("computed", 0.25)):
        assert at(samples, "themis_item_stage_seconds_count", stage=stage) == 8
        assert at(samples, "themis_item_stage_seconds_sum", stage=stage) == 5 * seconds
    for edge, count in (("0.7", 0), ("0.8", 5), ("+Inf", 5)):
        assert at(samples, "themis_score_bucket", scenario="math", version=VERSION, le=edge) == count
    assert at(samples, "themis_label_mass_count", version=VERSION) == 6
    assert at(samples, "themis_label_mass_sum", version=VERSION) == pytest.approx(5 * 0.9 + 0.95)
    assert at(samples, "themis_call_items_sum", method="Score") == 4 + 1 + 1
    assert at(samples, "themis_call_items_sum", method="StreamScores") == 2
    assert at(samples, "themis_call_duration_seconds_count", method="Score") == 4
    assert at(samples, "themis_queue_tokens") == 0
    assert at(samples, "themis_calls_in_flight") == 0
    assert at(samples, "themis_version_current", base_model="fake", engine="fake", version=VERSION) == 1
    assert not any(name.endswith("_created") for name, _ in samples)


async def test_what_goes_on_can_be_scraped_while_it_does() -> None:
    async with observed(FakeJudge()) as served:
        await served.serve()
        held = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold 1"), item("hold 2")])))
        await served.judge.until(lambda: len(served.judge.started) == 2)
        samples = await served.samples()
        assert at(samples, "themis_queue_tokens") == 2 * served.judge.tokens
        assert at(samples, "themis_calls_in_flight") == 1
        assert not any(name == "themis_items_total" for name, _ in samples)
        served.judge.released.set()
        await held
        assert at(await served.samples(), "themis_calls_in_flight") == 0


async def test_refusals_are_counted_as_calls_and_their_items_not_at_all() -> None:
    async with observed(FakeJudge(), make_config(max_queue_tokens=15)) as served:
        await served.serve()
        held = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold")])))
        await served.judge.until(lambda: bool(served.judge.started))
        refused = served.stub.Score(pb.ScoreRequest(items=[item("more")]))
        assert await code_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
        served.judge.released.set()
        await held
        samples = await served.samples()
    assert at(samples, "themis_calls_total", method="Score", code="RESOURCE_EXHAUSTED") == 1
    assert at(samples, "themis_items_total", method="Score", status="OK", version=VERSION) == 1


async def test_prometheus_gets_the_format_it_asks_for() -> None:
    async with observed(FakeJudge()) as served:
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        answer = await served.http.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
    assert {"themis_build_info", "themis_calls", "themis_score", "process_open_fds"} <= families


async def test_health_from_loading_to_draining() -> None:
    async with observed(FakeJudge()) as served:
        loading = await served.http.get("/readyz")
        assert (await served.http.get("/healthz")).status_code == 200
        assert at(await served.samples(), "themis_ready") == 0
        await served.serve()
        serving = await served.http.get("/readyz")
        assert at(await served.samples(), "themis_ready") == 1
        await served.server.drain()
        draining = await served.http.get("/readyz")
        assert (await served.http.get("/healthz")).status_code == 200
    assert (loading.status_code, serving.status_code, draining.status_code) == (503, 200, 503)
    assert "loading" in loading.text
    assert "draining" in draining.text


async def test_a_failed_engine_shows() -> None:
    async with observed(FakeJudge()) as served:
        await served.serve()
        await served.server.fail("stuck")
        assert at(await served.samples(), "themis_engine_failures_total") == 1
        assert "the engine failed: stuck" in (await served.http.get("/readyz")).text


async def test_the_status_as_json() -> None:
    times = iter((1_700_000_000.0, 1_700_003_725.0, 1_700_003_725.0))
    async with observed(ObservedJudge(), clock=lambda: next(times)) as served:
        await known_traffic(served)
        answer = await served.http.get("/statusz", headers={"accept": "application/json"})
    told = answer.json()
    assert (told["software_version"], told["started_at"], told["uptime_s"]) == (
        "1.2.3",
        "2023-11-14T22:13:20+00:00",
        3725,
    )
    assert (told["ready"], told["why_closed"], told["calls_in_flight"], told["queue_tokens"]) == (True, "", 0, 0)
    assert told["tokens_per_s"] > 0
    [version] = told["versions"]
    assert (version["id"], version["base_model"], version["engine"]) == (VERSION, "fake", "fake")
    assert {"method": "Score", "outcome": "OK", "count": 2} in told["calls"]
    assert {"method": "Score", "outcome": "OFF_FORMAT", "count": 1} in told["items"]
    bad, unexpected = told["last_failures"]
    assert (bad["code"], bad["incident"]) == ("INVALID_ARGUMENT", "")
    assert (unexpected["code"], unexpected["items"]) == ("INTERNAL", 1)
    assert [line["incident"] for line in served.lines("incident")] == [unexpected["incident"]]
    assert told["config"]["limits.max_items"] == 512
    assert CANARY not in answer.text


async def test_the_status_before_there_is_any() -> None:
    async with observed(FakeJudge()) as served:
        page = (await served.http.get("/statusz")).text
        told = (await served.http.get("/statusz", headers={"accept": "application/json"})).json()
    assert "still loading its judge" in page
    assert "None is loaded." in page
    assert (told["ready"], told["versions"], told["tokens_per_s"], told["calls"]) == (False, [], None, [])


async def test_the_page_is_html_that_quotes_what_it_shows() -> None:
    config = make_config().model_copy(update={"engine": EngineConfig(model="<script>alert(1)</script>")})
    async with observed(FakeJudge(), config) as served:
        answer = await served.http.get("/statusz", headers={"accept": "text/html,application/json;q=0.9"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text
    assert html.escape("<script>alert(1)</script>") in answer.text


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
async def test_secrets_in_settings_are_hidden(accept: str) -> None:
    openai = OpenAIConfig(api_key=SecretStr("hush-1"), base_url="https://me:hush-2@host/v1")
    tracing = TracingConfig(otlp_endpoint="http://hush-3@collector:4317")
    config = make_config().model_copy(
        update={"engine": EngineConfig(kind="openai", model="m", openai=openai), "tracing": tracing}
    )
    async with observed(FakeJudge(), config) as served:
        text = (await served.http.get("/statusz", headers={"accept": accept})).text
    assert "hush" not in text
    assert "https://**********@host/v1" in text
    assert "http://**********@collector:4317" in text
    assert "engine.openai.api_key" in text


async def test_only_the_status_page_asks_for_a_token() -> None:
    def authorize(authorization: str | None) -> bool:
        return authorization == "Bearer right"

    async with observed(FakeJudge(), authorize=authorize) as served:
        refused = await served.http.get("/statusz")
        wrong = await served.http.get("/statusz", headers={"authorization": "Bearer wrong"})
        let_in = await served.http.get("/statusz", headers={"authorization": "Bearer right"})
        others = [(await served.http.get(path)).status_code for path in ("/metrics", "/healthz", "/readyz")]
    assert [one.status_code for one in (refused, wrong, let_in)] == [401, 401, 200]
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "settings" not in refused.text.lower()
    assert others == [200, 200, 503]


async def test_other_paths_and_methods_are_refused() -> None:
    async with observed(FakeJudge()) as served:
        assert (await served.http.get("/")).status_code == 404
        assert (await served.http.post("/metrics")).status_code == 405
        assert (await served.http.head("/healthz")).status_code == 200


async def test_too_many_connections_get_503() -> None:
    async with observed(FakeJudge(), http=HttpConfig(port=0, max_connections=2)) as served:
        host, port = served.address.split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        try:
            assert (await served.http.get("/healthz")).status_code == 503
        finally:
            for _, writer in held:
                writer.close()
                await writer.wait_closed()


async def test_it_stops_although_somebody_stays_connected() -> None:
    port = HttpPort(HttpConfig(port=0), ())
    host, number = (await port.start()).split(":")
    reader, writer = await asyncio.open_connection(host, int(number))
    await asyncio.wait_for(port.stop(), 30)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"can't listen on 127\.0\.0\.1:{number} for HTTP"):
            await HttpPort(HttpConfig(port=number), ()).start()


# ---------------------------------------------------------------------------------------------- the real process


async def test_the_process_answers_while_it_loads_and_signals_stay_its_own() -> None:
    async with process("--http.port", "0", FAKE_JUDGE="block-load") as server:
        address = (await server.event("http"))["address"]
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            assert (await http.get("/healthz")).status_code == 200
            assert "still loading" in (await http.get("/readyz")).text
        server.send(signal.SIGTERM)
        assert (await server.event("stopped"))["phase"] == "loading"
        assert await server.process.wait() == 0


async def test_the_process_serves_both_ports_and_drains_with_a_scraper_connected() -> None:
    async with process("--http.port", "0") as server:
        address = (await server.event("http"))["address"]
        await server.event("serving")
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            assert (await http.get("/readyz")).text == "ready\n"
            loads = [line for line in (await http.get("/metrics")).text.splitlines() if "load_seconds_count" in line]
            assert 'themis_version_load_seconds_count{outcome="ok"} 1.0' in loads
            assert 'themis_version_load_seconds_count{outcome="failed"} 0.0' in loads
            server.send(signal.SIGTERM)
            assert await server.process.wait() == 0


async def test_the_process_says_so_where_the_http_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with process("--http.port", str(taken.getsockname()[1])) as server:
            assert server.process.stderr is not None
            output = (await server.process.stderr.read()).decode()
            assert await server.process.wait() == 1
    assert "can't listen on 127.0.0.1" in output
