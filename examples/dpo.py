"""DPO with TRL on pairs that the judge labelled: the policy responds several times, `themis label-pairs` makes pairs of
the responses, and DPO trains on these.

python -m examples.dpo --judge localhost:50051
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import DPOConfig, DPOTrainer

from examples.setting import arguments, on_cpu, policy, questions, show

RESPONSES = 4
LABELLED = (0, 1)
"""Exit codes with which pairs are written; 1 says that some prompts have none, since a response could not be judged."""


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments("DPO on pairs that the judge labelled", argv, steps=10)
    model, tokenizer = policy(args.policy)
    args.out.mkdir(parents=True, exist_ok=True)
    responses, pairs = args.out / "responses.jsonl", args.out / "pairs.jsonl"
    respond(model, tokenizer, responses)
    label(responses, pairs, args.judge)
    trainer = DPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=load_dataset("json", data_files=str(pairs), split="train"),
        args=DPOConfig(**on_cpu(args), max_steps=args.steps, per_device_train_batch_size=4),
    )
    trainer.train()
    show(trainer, "rewards/margins")


def respond(model: Any, tokenizer: Any, file: Path) -> None:
    """Writes one {"prompt": [...], "responses": [...]} a line."""
    with file.open("w", encoding="utf-8") as out:
        for row in questions():
            encoded = tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            ids = model.generate(
                **encoded, do_sample=True, num_return_sequences=RESPONSES, min_new_tokens=4, max_new_tokens=48
            )
            texts = tokenizer.batch_decode(ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
            out.write(json.dumps({"prompt": row["prompt"], "responses": texts}) + "\n")


def label(responses: Path, pairs: Path, judge: str) -> None:
    """The same as `themis label-pairs RESPONSES -o PAIRS -s JUDGE --pairs all --overwrite`."""
    pairs.unlink(missing_ok=True)  # so that no earlier run's are taken for this one's
    command = [sys.executable, "-m", "themis_client.cli", "label-pairs", str(responses), "-o", str(pairs)]
    done = subprocess.run([*command, "-s", judge, "--pairs", "all", "--overwrite"], check=False)
    if done.returncode not in LABELLED or not pairs.exists():
        raise SystemExit(f"label-pairs ended with {done.returncode}")


if __name__ == "__main__":
    main()
