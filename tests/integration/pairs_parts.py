"""Inputs of `themis label-pairs`, the command in a process of its own, and what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "themis_client.cli", "label-pairs"]
JUDGE = "tests.integration.pairs_judge"


def rows(count: int) -> list[dict[str, Any]]:
    """Prompts with four responses each, of which some are equal, and some equally long."""
    return [
        {
            "prompt": f"Frage {number} – 問 {number}",
            "responses": [
                letter * (1 + (number * step) % 19) for letter, step in zip("äbcb", (3, 7, 5, 7), strict=True)
            ],
            "id": f"p{number}",
        }
        for number in range(count)
    ]


def write(path: Path, values: Iterable[object]) -> Path:
    lines = [value if isinstance(value, str) else json.dumps(value) for value in values]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def journal_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal.jsonl")


def failures_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.failed.jsonl")


def recorded(output: Path) -> int:
    """How many whole records the journal holds."""
    path = journal_of(output)
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def start(source: Path, output: Path, address: str, *flags: str) -> subprocess.Popen[str]:
    command = [*COMMAND, str(source), "-o", str(output), "-s", address, *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def label(source: Path, output: Path, address: str, *flags: str) -> tuple[int, str]:
    """The exit code, and what was said."""
    with start(source, output, address, *flags) as process:
        told = "".join(process.communicate(timeout=120))
    assert "Traceback" not in told, told
    return process.returncode, told
