"""What may be loaded from a model's folder: weights as safetensors, and no code unless that is allowed.

Engines check before they load, so that the answer is clear and comes before any library opens a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from themis_judge.digests import weights_files
from themis_judge.engines.base import EngineUnavailable

CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json")
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
SAFE = ".safetensors"


def check_folder(folder: Path, trust_remote_code: bool = False, what: str = "engine.model") -> list[Path]:
    """The files of weights, sorted. Raises EngineUnavailable, naming `what` and saying what is not loaded."""
    weights = weights_files(folder)
    if not weights:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f"only {pickles[0]}, which could run code when it is read" if pickles else "no weights"
        raise EngineUnavailable(f"{what}: {folder} holds {found}; safetensors are loaded and nothing else")
    _check_index(folder / INDEX)
    if not trust_remote_code:
        for name in CONFIGURATIONS:
            _check_no_code(folder / name)
    return weights


def _check_index(index: Path) -> None:
    """Whatever it names is opened, as a pickle where its name says so."""
    named = _read(index).get("weight_map", {})
    others = sorted({str(file) for file in named.values()} if isinstance(named, dict) else {str(named)})
    unsafe = [file for file in others if not file.endswith(SAFE)]
    if unsafe:
        raise EngineUnavailable(f"engine.model: {index} names {unsafe[0]}; safetensors are loaded and nothing else")


def _check_no_code(configuration: Path) -> None:
    if _read(configuration).get("auto_map"):
        raise EngineUnavailable(
            f"engine.model: {configuration} names code of the model's own (auto_map), which is not run. If you trust "
            "its author as much as whoever installs your software, set engine.trust_remote_code"
        )


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EngineUnavailable(f"engine.model: {file} is not JSON") from error
    return data if isinstance(data, dict) else {}
