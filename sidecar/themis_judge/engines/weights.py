"""Where a model's weights lie, and their digest: what every engine that loads weights asks first. Needs no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from themis_judge.engines.base import EngineUnavailable


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model's folder as it lies on this machine."""

    folder: Path
    name: str
    weights_digest: str


def locate(model: str) -> Loaded:
    """A local folder, a GGUF file (dequantised once into the cache) or a hub name (fetched by huggingface_hub).

    Raises EngineUnavailable, saying what is missing.
    """
    path = Path(model).expanduser()
    name = path.stem if path.suffix == ".gguf" else path.name
    if path.suffix == ".gguf":
        path = _dequantised(path)
    elif not path.is_dir():
        path = _fetched(model)
    return Loaded(path, name, file_digest(*weight_files(path, "engine.model")))


def weight_files(folder: Path, what: str) -> list[Path]:
    """A folder's weights. Raises EngineUnavailable, naming `what`, where it holds none in the one format that can't
    carry code."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise EngineUnavailable(f"{what}: {folder} holds no safetensors; other formats are not loaded")
    return weights


def file_digest(*files: Path) -> str:
    """Hex SHA-256 over the files' contents, in the order given."""
    hashed = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                hashed.update(chunk)
    return hashed.hexdigest()


def _dequantised(file: Path) -> Path:
    if not file.is_file():
        raise EngineUnavailable(f"engine.model: no such file: {file}")
    from themis_judge.engines.transformers.gguf import dequantised  # loads torch

    return dequantised(file)


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise EngineUnavailable(
            f"engine.model: {name} is neither a folder, a GGUF file nor a model that the hub gives: {error}"
        ) from error
