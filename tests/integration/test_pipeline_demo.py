"""The pipeline's half of `make demo`, as people run it: real broker, sidecar, endpoint and stages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.items import Message, Response
from themis_judge.scenarios import load_scenarios
from themis_pipeline.archive.place import open_files
from themis_pipeline.archive.reader import read, snapshot
from themis_pipeline.demo.chat import ChatRoutes
from themis_pipeline.demo.grammars import form_for
from themis_pipeline.llm.answers import read_answer
from themis_pipeline.stages import evaluation, question, quiz
from themis_pipeline.stages.evaluation import Form

ROOT = Path(__file__).parents[2]
KAFKA = ROOT / ".cache/kafka"
GOLDEN = ROOT / "tests/unit/pipeline/golden"
NAME = "small"


@pytest.mark.timeout(660)
def test_the_pipelines_demo_gives_records_with_their_difficulty(tmp_path: Path, small_model: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "themis_pipeline.demo", "--kafka", str(KAFKA)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "machinery, not what it is worth" in run.stdout
    out = tmp_path / "demo-out"
    files = open_files(str(out / "archive"))
    records = list(read(files, snapshot(files)))
    files.close()
    scored = [record for record in records if record.log_perplexity_ratio is not None]
    assert len(scored) > 5
    assert len({record.scenario for record in scored}) > 2
    assert len({record.id for record in records}) == len(records)
    assert all(record.scorer and record.critique and record.teacher for record in scored)
    # The prompt with the misspelt field, and no other one.
    assert "malformed" in run.stdout
    assert {f"p{number:02}" for number in range(1, 9)} >= {r.source_id for r in records if r.generator is None}
    assert all((out / "selection" / name).exists() for name in ("records.parquet", "selection.json", "selection.png"))
    assert (out / "pipeline.yaml").read_text().startswith("#")


def asking(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": NAME, "messages": messages, "max_tokens": 300, "temperature": 0.5, "seed": 3}


PARSED: list[tuple[str, Callable[[str], object]]] = [
    ("teacher_pair", evaluation.read_pair),
    ("question_open_qa_1", lambda answer: question.parse(answer, 1)),
    ("quiz_math", lambda answer: quiz.parse("math", answer)),
    ("quiz_reading_comprehension", lambda answer: quiz.parse("reading_comprehension", answer)),
]


async def test_the_forms_are_those_that_the_stages_read(small_model: Path) -> None:
    """Whatever the model writes within them."""
    engine = TransformersEngine(TransformersSettings(str(small_model)))
    await engine.load()
    asked = evaluation.single(
        load_scenarios()["close_qa"],
        (Message.of("user", "What floats?"),),
        Response.of("Wood."),
        None,
        Form(),
    )
    prompts: list[tuple[str, Callable[[str], object]]] = [
        (asked.prompt, lambda answer: evaluation.read_single(answer, asked))
    ]
    prompts += [((GOLDEN / f"{name}.txt").read_text(), parse) for name, parse in PARSED]
    try:
        app = Starlette(routes=ChatRoutes(engine, NAME, form_for).routes)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here", timeout=240) as http:
            told = await asyncio.gather(*(http.post("/v1/chat/completions", json=asking(text)) for text, _ in prompts))
    finally:
        await engine.unload()
    for (_, parse), one in zip(prompts, told, strict=True):
        answer = read_answer(one.content, NAME)
        assert answer.finish == "stop"
        parse(answer.text)
