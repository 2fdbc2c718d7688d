"""What store tests publish and read: small folders with real safetensors files, and a clock that obeys."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

from themis_judge.store import DesiredState, Draft, JudgeStore, Manifest, Shadow
from themis_judge.store.cache import Cache
from themis_judge.store.local import LocalFiles

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class SetClock:
    """Wall and monotonic time, each moved by hand."""

    def __init__(self) -> None:
        self.wall = START
        self.monotonic = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic_s(self) -> float:
        return self.monotonic

    def pass_s(self, seconds: float) -> None:
        """Time as it should pass: both clocks."""
        self.jump_s(seconds)
        self.monotonic += seconds

    def jump_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)


class FarFiles(LocalFiles):
    """A directory that can't be read in place: what the cache is for, without a network."""

    def local(self, path: str) -> Path | None:
        return None


def tensors(size: int = 64, seed: int = 0) -> bytes:
    """A safetensors file with one tensor of `size` bytes."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)


def model(folder: Path, size: int = 64, seed: int = 0) -> Path:
    """Two shards of weights, as a folder from the hub has them, and the files around them."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in (1, 2):
        (folder / f"model-0000{index}-of-00002.safetensors").write_bytes(tensors(size, seed + index))
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "LICENSE").write_text("none")
    return folder


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(tensors())
    return folder


def scenarios(folder: Path) -> Path:
    folder.mkdir(parents=True)
    text = "id: law\nname: Law\ndefinition: D\nreference: used\ncriteria:\n  - id: law.one\n    name: N\n    text: T\n"
    (folder / "law.yaml").write_text(text)
    return folder


def opened(tmp_path: Path, clock: SetClock | None = None) -> JudgeStore:
    return JudgeStore.open(str(tmp_path / "store"), tmp_path / "cache", clock=clock)


def far(tmp_path: Path, cache_bytes: int = 1 << 20, cache: str = "cache") -> JudgeStore:
    return JudgeStore(FarFiles(tmp_path / "store"), Cache(tmp_path / cache, cache_bytes), SetClock())


def published(store: JudgeStore, tmp_path: Path, name: str = "judge", seed: int = 0) -> Manifest:
    return store.publish(Draft(name, model(tmp_path / "models" / f"{name}-{seed}", seed=seed), "base"))


def state(
    number: int,
    current: str,
    *others: str,
    shadow: str | None = None,
    previous: str | None = None,
    by: str = "test",
) -> DesiredState:
    shown = Shadow(shadow, 0.5) if shadow else None
    return DesiredState(number, current, (current, *others), shown, previous, by, "2026-01-02T03:04:05Z", "a test")
