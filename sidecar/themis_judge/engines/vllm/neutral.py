"""An adapter that changes nothing, for requests to the bare model on vLLM's CPU build.

Where a batch holds requests with an adapter and requests without one, that build applies an adapter to the latter as
well, silently (vllm-project/vllm#48421). So there nobody goes without. Can go once all supported versions are free of
it.
"""

from __future__ import annotations

import json
from pathlib import Path

_NO_TENSORS = (8).to_bytes(8, "little") + b"{}      "  # safetensors: the header's length and the header


def write_neutral(folder: Path) -> Path:
    """The folder, with an adapter for no module at all."""
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(_NO_TENSORS)
    return folder
