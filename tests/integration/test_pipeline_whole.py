"""All stages between people's inputs and scored records in one process, next to a sidecar process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pipeline_accounts import once
from tests.integration.pipeline_script import ScriptedEndpoint
from tests.integration.pipeline_world import Pipeline, Process
from tests.integration.sidecar_fakes import VERSION
from tests.integration.sidecar_running import Running, free_port, running, until
from tests.integration.test_pipeline_run import MODELS, models, texts
from tests.unit.pipeline.llm_endpoint import listening
from themis_pipeline.archive import open_files
from themis_pipeline.archive.reader import read, snapshot
from themis_pipeline.local.broker import KafkaBroker
from themis_pipeline.topics import (
    CLASSIFIED_PROMPTS,
    INSTRUCTIONS,
    LABELLED,
    NEW_PROMPTS,
    REFERENCE_TEXTS,
    SCORED,
    retry_topic,
)
from themis_proto.v1 import events_pb2 as ev

STAGES = ("classify", "plan", "question", "quiz", "gate", "respond", "label", "annotate", "difficulty", "archive")
"""In the order in which they feed each other."""


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "sidecar") as server:
        yield server


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    here = ScriptedEndpoint(MODELS)
    with listening(here):
        yield here


def prompts(count: int) -> list[bytes]:
    """Every other one says its scenario itself."""
    return [
        json.dumps(
            {"id": f"p{n}", "source": "people", "text": f"How do {n} otters sleep in the cold water of a river?"}
            | ({"scenario": "open_qa"} if n % 2 else {})
        ).encode()
        for n in range(count)
    ]


def whole(kafka: KafkaBroker, tmp_path: Path, endpoint: ScriptedEndpoint, target: str) -> Pipeline:
    told = models(endpoint.url, tmp_path)
    told |= {"sidecar": {"target": target}, "difficulty": {"scorer": VERSION}}
    told |= {"archive": {"url": str(tmp_path / "archive"), "age_s": 1}}
    made = Pipeline(tmp_path, kafka.address, **told)
    made.create_topics()
    return made


def test_prompts_and_texts_become_scored_records(
    kafka: KafkaBroker, tmp_path: Path, endpoint: ScriptedEndpoint, sidecar: Running
) -> None:
    pipeline = whole(kafka, tmp_path, endpoint, sidecar.address)
    pipeline.feed(NEW_PROMPTS, [*prompts(10), b"\xff", json.dumps({"source": "people", "text": "short"}).encode()])
    pipeline.feed(REFERENCE_TEXTS, texts("fine", "fine"))
    with pipeline.running("all") as process:
        pipeline.settled(process, *STAGES)
        assert process.stop() == 0
    classified = pipeline.read(CLASSIFIED_PROMPTS, ev.ClassifiedPrompt)
    assert Counter((one.scenario, one.scenario_basis) for one in classified) == {
        ("close_qa", ev.SCENARIO_BASIS_CLASSIFIED): 6,
        ("open_qa", ev.SCENARIO_BASIS_GIVEN): 5,
    }
    assert [one.error for one in pipeline.letters("classify")] == ["json"]
    instructions = pipeline.read(INSTRUCTIONS, ev.Instruction)
    once(one.id for one in instructions)
    assert Counter(one.origin for one in instructions) == {
        ev.INSTRUCTION_ORIGIN_PEOPLE: 10,  # the gate drops the short one
        ev.INSTRUCTION_ORIGIN_QUESTION: 2 * 2 * 5,
        ev.INSTRUCTION_ORIGIN_QUIZ: 2,
    }
    labels, scored = pipeline.read(LABELLED, ev.Labelled), pipeline.read(SCORED, ev.Scored)
    once(one.id for one in scored)
    assert {one.id for one in scored} == {one.id for one in labels}
    assert {one.labelled.instruction.id for one in scored} == {one.id for one in instructions}
    for one in scored:
        assert one.HasField("difficulty") == bool(one.labelled.critique)
        assert one.difficulty.scorer in ("", VERSION)
    files = open_files(str(tmp_path / "archive"))
    try:
        archived = [record.id for record in read(files, snapshot(files))]
    finally:
        files.close()
    assert sorted(archived) == sorted(one.id for one in scored)
    assert not any(pipeline.letters(stage) for stage in STAGES if stage != "classify")


def test_prompts_wait_for_a_sidecar_that_is_away(
    kafka: KafkaBroker, tmp_path: Path, endpoint: ScriptedEndpoint
) -> None:
    """In place: nothing goes round through the retry topic, and no more is read than can be in hand."""
    port, count = free_port(), 60
    pipeline = whole(kafka, tmp_path, endpoint, f"127.0.0.1:{port}")
    pipeline.change(runner={"handle_timeout_s": 120, "window_records": 8})
    pipeline.feed(NEW_PROMPTS, prompts(count))
    with pipeline.running("classify") as process:
        until(lambda: told(process)["lag_records"] == count, process.log)
        until(lambda: 'in_hand_records{partition="0",stage="classify"' in process.get("/metrics")[1], process.log)
        assert pipeline.records(retry_topic("classify")) == []
        with running(tmp_path / "sidecar", port=port):
            pipeline.settled(process, "classify")
        assert process.stop() == 0
    assert len(pipeline.read(CLASSIFIED_PROMPTS, ev.ClassifiedPrompt)) == count
    assert pipeline.records(retry_topic("classify")) == []
    assert not pipeline.letters("classify")


def told(process: Process) -> dict[str, Any]:
    stage: dict[str, Any] = json.loads(process.get("/readyz")[1])["stages"]["classify"]
    return stage


def test_a_process_that_waits_is_stopped_soon(kafka: KafkaBroker, tmp_path: Path, endpoint: ScriptedEndpoint) -> None:
    pipeline = whole(kafka, tmp_path, endpoint, f"127.0.0.1:{free_port()}")
    pipeline.change(runner={"handle_timeout_s": 600, "drain_s": 45})
    pipeline.feed(NEW_PROMPTS, prompts(2))
    with pipeline.running("classify") as process:
        until(lambda: told(process)["lag_records"] == 2, process.log)
        assert process.stop() == 0
    with running(tmp_path / "sidecar") as sidecar:
        pipeline.change(sidecar={"target": sidecar.address})
        with pipeline.running("classify") as process:
            pipeline.settled(process, "classify")
            assert process.stop() == 0
    assert len(pipeline.read(CLASSIFIED_PROMPTS, ev.ClassifiedPrompt)) == 2
