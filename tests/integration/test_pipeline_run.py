"""`themis-pipeline run` as a process: stages side by side on a real broker, one endpoint playing their models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pipeline_accounts import check, journalled
from tests.integration.pipeline_script import ScriptedEndpoint, troubled
from tests.integration.pipeline_world import Pipeline, Process
from tests.integration.sidecar_running import until
from tests.unit.pipeline.llm_endpoint import listening
from themis_pipeline.events import ids
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.topics import LABELLED, REFERENCE_TEXTS
from themis_proto.v1 import events_pb2 as ev

MADE = ("plan", "question", "quiz", "respond", "label")
MODELS = {"writer-1": "writer", "teacher-1": "teacher"}
SHARES = {"open_qa": 5, "close_qa": 5, "math": 1}
CONCURRENCY = 8


def models(url: str, folder: Path) -> dict[str, Any]:
    """The settings of stages that ask models, all of them played by one endpoint."""
    one = {"base_url": url, "timeout_s": 2, "attempts": 2, "concurrency": CONCURRENCY, "open_s": 0.5}
    writer = {**one, "name": "writer", "model": "writer-1", "lineage": ["sample"]}
    teacher = {**one, "name": "teacher", "model": "teacher-1", "lineage": ["other"], "weight": 0}
    return {
        "llm": {"store_url": str(folder / "llm"), "endpoints": [writer, teacher]},
        "plan": {"shares": SHARES},
        "respond": {"responses": 1, "min_responses": 1},
        "label": {"teacher": "teacher"},
        "runner": {"max_postponed": 3, "handle_timeout_s": 10},
    }


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    here = ScriptedEndpoint(MODELS)
    with listening(here):
        yield here


@pytest.fixture
def pipeline(kafka: KafkaBroker, tmp_path: Path, endpoint: ScriptedEndpoint) -> Pipeline:
    made = Pipeline(tmp_path, kafka.address, **models(endpoint.url, tmp_path))
    made.create_topics()
    return made


def texts(*words: str) -> list[bytes]:
    return [
        json.dumps(
            {"id": f"t{n}", "source": "tests", "text": f"Otters number {n} sleep on their backs: {word}"}
        ).encode()
        for n, word in enumerate(words)
    ]


def plans(pipeline: Pipeline, count: int) -> list[str]:
    """The ids of the plans that so many texts give."""
    topic = pipeline.prefix + REFERENCE_TEXTS.name
    return [
        ids.derived(ids.ingress("tests", f"t{n}", topic, 0, 0), f"plan 0 {scenario} {share}", 0)
        for n in range(count)
        for scenario, share in SHARES.items()
    ]


def ready(process: Process) -> dict[str, dict[str, Any]]:
    status, told = process.get("/readyz")
    assert status == 200
    stages: dict[str, dict[str, Any]] = json.loads(told)["stages"]
    return stages


def test_texts_become_labels(pipeline: Pipeline, endpoint: ScriptedEndpoint) -> None:
    wrong = {"json": b"{", "text": b'{"source": "tests"}', "oversize": b"x" * (REFERENCE_TEXTS.max_event_bytes + 1)}
    pipeline.feed(REFERENCE_TEXTS, [*texts(*["fine"] * 4), *wrong.values()])
    with pipeline.running(*MADE) as process:
        process.ready()
        pipeline.settled(process, *MADE)
        until(lambda: {stage["lag_records"] for stage in ready(process).values()} == {0}, process.log)
        assert set(ready(process)) == set(MADE)
        assert process.get("/healthz")[0] == 200
        assert 'themis_pipeline_committed_records_total{stage="plan"} 7.0' in process.get("/metrics")[1]
        assert process.stop() == 0
    assert {one.error: one.value for one in pipeline.letters("plan")} == wrong
    assert check(pipeline, plans(pipeline, 4))
    assert set(endpoint.asked.values()) == {1}
    for secret in ("Otters", "otters", "strict and fair"):
        assert secret not in process.log.read_text()
    assert sorted(line["code"] for line in process.events("given_up")) == sorted(wrong)


def killed_after(pipeline: Pipeline, endpoint: ScriptedEndpoint, answers: int) -> None:
    """A process that lives until the endpoint has given so many answers in all."""
    with pipeline.running(*MADE) as process:
        until(lambda: len(endpoint.answered) >= answers or process.popen.poll() is not None, process.log)
        assert process.popen.poll() is None, process.log.read_text()


def test_killed_processes_lose_and_double_nothing(pipeline: Pipeline, endpoint: ScriptedEndpoint) -> None:
    """What was paid before a kill is not paid again: its answer is in the journal."""
    count, kills = 30, (60, 200, 400)
    pipeline.feed(REFERENCE_TEXTS, texts(*["fine"] * count))
    paid: dict[str, int] = {}
    for answers in kills:
        killed_after(pipeline, endpoint, answers)
        paid |= {digest: endpoint.asked[digest] for digest in journalled(pipeline.folder / "llm") - paid.keys()}
    with pipeline.running(*MADE) as process:
        pipeline.settled(process, *MADE)
        assert process.stop() == 0
    assert check(pipeline, plans(pipeline, count))
    assert not any(pipeline.letters(stage) for stage in MADE)
    assert {digest: endpoint.asked[digest] for digest in paid} == paid
    assert set(endpoint.asked) == journalled(pipeline.folder / "llm")
    # Only calls that were under way at a kill, at both endpoints, can have been paid twice.
    assert sum(endpoint.answered.values()) - len(endpoint.answered) <= len(kills) * 2 * CONCURRENCY


def test_an_endpoint_in_trouble_loses_and_doubles_nothing(pipeline: Pipeline, endpoint: ScriptedEndpoint) -> None:
    """It refuses, breaks, answers what is no answer, or says nothing: an output or a letter for each record."""
    pipeline.change(runner={"max_postponed": 5, "handle_timeout_s": 6})
    endpoint.script = troubled
    words = ["fine"] * 8 + ["always-garbage", "unreadable"]
    pipeline.feed(REFERENCE_TEXTS, texts(*words))
    with pipeline.running(*MADE) as process:
        pipeline.settled(process, *MADE)
        assert process.stop() == 0
    assert check(pipeline, plans(pipeline, len(words)))
    letters = pipeline.letters("question")
    assert sorted((one.reason, one.error) for one in letters) == 2 * [
        (ev.DEAD_LETTER_REASON_REJECTED, "unreadable_headings")
    ] + 2 * [(ev.DEAD_LETTER_REASON_EXHAUSTED, "EndpointUnavailable")]
    # Others may have met the open breaker as often as they may.
    others = [letter for stage in MADE if stage != "question" for letter in pipeline.letters(stage)]
    assert {letter.reason for letter in others} <= {ev.DEAD_LETTER_REASON_EXHAUSTED}
    assert max(endpoint.answered.values()) == 1
    told = process.log.read_text()
    assert "Otters" not in told
    assert "Welcome" not in told
    assert len(process.events("given_up")) == 4 + len(others)


def test_a_process_that_is_told_to_stop_finishes_what_it_has(pipeline: Pipeline, endpoint: ScriptedEndpoint) -> None:
    pipeline.feed(REFERENCE_TEXTS, texts(*["fine"] * 10))
    with pipeline.running(*MADE) as process:
        until(lambda: len(endpoint.answered) >= 20, process.log)
        assert process.stop() == 0
    assert sum(endpoint.answered.values()) == len(journalled(pipeline.folder / "llm"))
    with pipeline.running(*MADE) as process:
        pipeline.settled(process, *MADE)
        assert process.stop() == 0
    check(pipeline, plans(pipeline, 10))
    assert set(endpoint.answered.values()) == {1}


def test_stages_run_alone_too(pipeline: Pipeline) -> None:
    pipeline.feed(REFERENCE_TEXTS, texts("fine"))
    for stage in MADE:
        with pipeline.running(stage) as process:
            pipeline.settled(process, stage)
            assert process.stop() == 0
    assert pipeline.read(LABELLED, ev.Labelled)
    check(pipeline, plans(pipeline, 1))


def test_a_teacher_that_turns_out_to_be_the_judges_kin_ends_the_process(
    pipeline: Pipeline, endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    """Its endpoint itself names the model only in its answers."""
    pipeline.change(judge={"lineage": ["served-model"]})
    pipeline.feed(REFERENCE_TEXTS, texts("fine"))
    with pipeline.running(*MADE) as process:
        assert process.popen.wait(60) == 4
    assert process.events("stage_failed")[0]["stage"] == "label"
    assert {one["stage"] for one in process.events("stage_stopped")} == set(MADE) - {"label"}
    assert not pipeline.letters("label")


def test_topics_that_are_missing_are_named_with_the_remedy(kafka: KafkaBroker, tmp_path: Path) -> None:
    bare = Pipeline(tmp_path, kafka.address)
    with bare.running("plan") as process:
        assert process.popen.wait(60) == 2
    assert f"{bare.prefix}reference-texts" in process.log.read_text()
    assert "topics create" in process.log.read_text()


def test_brokers_that_do_not_answer(tmp_path: Path) -> None:
    away = Pipeline(tmp_path, "127.0.0.1:1")
    with away.running("plan", flags=("--kafka.bootstrap_timeout_s", "1")) as process:
        assert process.popen.wait(60) == 3
