"""Folders that could run code: refused before anything in them is opened."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from themis_judge.engines.base import EngineUnavailable
from themis_judge.engines.folders import check_folder
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({canary!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a good model."""
    return Path(shutil.copytree(tiny_model("llama"), tmp_path / "model"))


def change(file: Path, **fields: Any) -> None:
    data = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**data, **fields}))


async def load(folder: Path, trust_remote_code: bool = False) -> None:
    settings = TransformersSettings(str(folder), dtype="float32", threads=1, trust_remote_code=trust_remote_code)
    engine = TransformersEngine(settings)
    try:
        await engine.load()
    finally:
        await engine.unload()


async def test_a_good_folder_loads(folder: Path) -> None:
    assert [path.name for path in check_folder(folder)] == ["model.safetensors"]
    await load(folder)


async def test_pickled_weights_are_not_opened(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touches(canary)))
    with pytest.raises(EngineUnavailable, match=r"only pytorch_model\.bin, which could run code"):
        await load(folder)
    assert not canary.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert canary.exists()  # it would have sung


async def test_an_index_that_leads_to_pickles(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "weights.bin").write_bytes(pickle.dumps(Touches(canary)))
    change(folder / "model.safetensors.index.json", weight_map={"a": "model.safetensors", "b": "weights.bin"})
    with pytest.raises(EngineUnavailable, match=r"names weights\.bin"):
        await load(folder)
    assert not canary.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
async def test_a_models_own_code_is_not_run(folder: Path, tmp_path: Path, file: str) -> None:
    canary = tmp_path / "canary"
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    change(folder / file, auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"})
    with pytest.raises(EngineUnavailable, match=rf"{file} names code of the model's own .* engine\.trust_remote_code"):
        await load(folder)
    assert not canary.exists()


async def test_a_models_own_code_runs_where_a_setting_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    canary = tmp_path / "canary"
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change(folder / "config.json", auto_map=auto_map, model_type="own")
    await load(folder, trust_remote_code=True)
    assert canary.exists()


async def test_trust_in_code_is_no_trust_in_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineUnavailable, match=r"only pytorch_model\.bin"):
        await load(folder, trust_remote_code=True)


def test_folders_that_say_nothing_of_use(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no weights"):
        check_folder(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EngineUnavailable, match=r"config\.json is not JSON"):
        check_folder(tmp_path)
