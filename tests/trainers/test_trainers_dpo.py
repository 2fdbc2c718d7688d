"""DPO on pairs that `themis label-pairs` made of the policy's own responses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets

from tests.integration.sidecar_running import Running
from tests.trainers import runs
from tests.trainers.runs import Run

RESPONSES, PAIRS = 8, 10  # of each prompt
STEPS = 24


def test_dpo_policies_learn_from_labelled_pairs(judge: Running, tmp_path: Path) -> None:
    def trained(run: Run) -> tuple[float, float, float]:
        model, tokenizer = run.policy()
        before = runs.liked(model, tokenizer)
        responses = runs.respond(model, tokenizer, seed=run.seed + 1, count=RESPONSES)
        pairs = _labelled(responses, judge.address, run.folder)
        order = random.Random(run.seed)
        turned = pairs.map(lambda row: _turned(row) if order.random() < 0.5 else row)
        return before, _after(run, pairs), _after(run.control, turned)

    runs.assert_learns(trained, tmp_path, STEPS)


def test_dpo_takes_parquet_as_it_takes_json(judge: Running, tmp_path: Path) -> None:
    run = Run(tmp_path / "judged", seed=0, steps=2)
    responses = runs.respond(*run.policy(), seed=1, count=RESPONSES)
    pairs = _labelled(responses, judge.address, tmp_path, "parquet")
    assert pairs.to_list() == _labelled(responses, judge.address, tmp_path, "json").to_list()
    _after(run, pairs)


def _labelled(responses: list[tuple[list[dict[str, str]], str]], address: str, folder: Path, form: str = "json") -> Any:
    """What the command makes of them, as TRL's users load it."""
    rows: dict[str, list[str]] = {}
    for prompt, text in responses:
        rows.setdefault(json.dumps(prompt), []).append(text)
    source, out = folder / "responses.jsonl", folder / f"pairs.{'jsonl' if form == 'json' else form}"
    lines = [json.dumps({"prompt": json.loads(prompt), "responses": texts}) for prompt, texts in rows.items()]
    source.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "themis_client.cli", "label-pairs", str(source), "-o", str(out), "-s", address]
    subprocess.run([*command, "--pairs", "all", "--pairs-per-prompt", str(PAIRS)], check=True, timeout=60)
    return datasets.load_dataset(form, data_files=str(out), split="train", cache_dir=str(folder / "cache"))


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def _after(run: Run, pairs: Any) -> float:
    trainer = runs.dpo(run, pairs)
    trainer.train()
    assert trainer.state.global_step == run.steps
    return runs.liked(trainer.model, trainer.processing_class)
