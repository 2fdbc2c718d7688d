"""Where a model's weights lie, and their digest: what every engine that loads weights asks first. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from themis_judge.digests import file_digest
from themis_judge.engines.base import EngineUnavailable
from themis_judge.engines.folders import check_folder


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model's folder as it lies on this machine. trust_remote_code: whether code that lies in it may run."""

    folder: Path
    name: str
    weights_digest: str
    trust_remote_code: bool = False


def locate(model: str, trust_remote_code: bool = False) -> Loaded:
    """A local folder, a GGUF file (dequantised once into the cache) or a hub name (fetched by huggingface_hub).

    Raises EngineUnavailable, saying what is missing, or what is there and isn't loaded.
    """
    path = Path(model).expanduser()
    name = path.stem if path.suffix == ".gguf" else path.name
    if path.suffix == ".gguf":
        path = _dequantised(path)
    elif not path.is_dir():
        path = _fetched(model, trust_remote_code)
    return Loaded(path, name, file_digest(*check_folder(path, trust_remote_code)), trust_remote_code)


def _dequantised(file: Path) -> Path:
    if not file.is_file():
        raise EngineUnavailable(f"engine.model: no such file: {file}")
    from themis_judge.engines.transformers.gguf import dequantised  # loads torch

    return dequantised(file)


def _fetched(name: str, with_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", *(["*.py"] if with_code else [])]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise EngineUnavailable(
            f"engine.model: {name} is neither a folder, a GGUF file nor a model that the hub gives: {error}"
        ) from error
