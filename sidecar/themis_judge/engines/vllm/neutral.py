"""An adapter that changes nothing, for requests to the bare model on vLLM's CPU build.

Where a batch holds requests with an adapter and requests without one, that build applies an adapter to the latter as
well, silently (vllm-project/vllm#48421). So there nobody goes without. Can go once all supported versions are free of
it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

# Of no model's modules, so that vLLM puts it nowhere; "base_layer" is a name that it takes in adapters for any model.
_MODULE = "base_model.model.neutral.base_layer"


def write_neutral(folder: Path) -> Path:
    """The folder, with an adapter for a module that no model has: vLLM takes none that is empty."""
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {f"{_MODULE}.lora_{side}.weight": torch.zeros(1, 1) for side in "AB"}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
