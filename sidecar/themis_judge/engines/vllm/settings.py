"""Settings of the vLLM engine, and what they are called on vLLM's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RUNNERS = {"v1": "0", "v2": "1"}


@dataclass(frozen=True, slots=True)
class VLLMSettings:
    """model: a folder, a GGUF file or a hub name. dtype and quantization as vLLM names them, None for no
    quantisation. context_tokens, max_batch_tokens, max_batch_requests: 0 for vLLM's own. cpu_cache_gib and
    cpu_reserved_cores hold for vLLM's CPU build alone; None lets vLLM decide. runner: "auto", "v1" or "v2".
    exact_logits: the last product in float32, where vLLM knows how (else it is the dtype's). max_adapters: LoRA
    adapters that may be in one batch, 0 for none at all. max_in_flight bounds the questions that vLLM has been given;
    without progress for stuck_after_s while some wait the engine counts as stuck. trust_remote_code runs Python that
    lies beside the weights: for models whose makers are trusted like one's own code."""

    model: str
    dtype: str = "bfloat16"
    quantization: str | None = None
    context_tokens: int = 0
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    cpu_cache_gib: int | None = None
    cpu_reserved_cores: int | None = None
    enforce_eager: bool = False
    runner: str = "auto"
    batch_invariant: bool = False
    exact_logits: bool = True
    prefix_caching: bool = True
    max_batch_tokens: int = 0
    max_batch_requests: int = 0
    max_adapters: int = 0
    max_adapter_rank: int = 16
    seed: int = 0
    trust_remote_code: bool = False
    max_in_flight: int = 1024
    stuck_after_s: float = 120.0


def environment(settings: VLLMSettings) -> Mapping[str, str]:
    """What vLLM takes from the environment alone. It reads them as it loads, and its processes inherit them."""
    told = {
        "VLLM_NO_USAGE_STATS": "1",  # nothing is sent to anybody
        "VLLM_CONFIGURE_LOGGING": "0",  # its lines go where ours go
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would copy gRPC's threads
        "THEMIS_VLLM_ENDS_WITH_PARENT": "1",  # see orphan.py
    }
    if settings.cpu_cache_gib is not None:
        told["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_cache_gib)
    if settings.cpu_reserved_cores is not None:
        told["VLLM_CPU_NUM_OF_RESERVED_CPU"] = str(settings.cpu_reserved_cores)
    if settings.runner != "auto":
        told["VLLM_USE_V2_MODEL_RUNNER"] = _RUNNERS[settings.runner]
    if settings.batch_invariant:
        told["VLLM_BATCH_INVARIANT"] = "1"
    return told


def arguments(settings: VLLMSettings, folder: Path, spare_adapters: int = 0) -> dict[str, Any]:
    """Keyword arguments of vLLM's AsyncEngineArgs. spare_adapters: for the engine's own use."""
    told: dict[str, Any] = {
        "model": str(folder),
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "load_format": "safetensors",
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "data_parallel_size": settings.data_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enforce_eager": settings.enforce_eager,
        "enable_prefix_caching": settings.prefix_caching,
        "max_model_len": settings.context_tokens or None,
        "max_num_batched_tokens": settings.max_batch_tokens or None,
        "max_num_seqs": settings.max_batch_requests or None,
        "seed": settings.seed,
        "trust_remote_code": settings.trust_remote_code,
        "scheduling_policy": "priority",
        "structured_outputs_config": {"backend": "xgrammar"},  # what the other engine's grammars are written for
        "generation_config": "vllm",  # sampling is the caller's alone
        "enable_log_requests": False,  # they would hold prompts
        "disable_log_stats": True,
    }
    if settings.exact_logits and settings.dtype != "float32":
        told["hf_overrides"] = {"head_dtype": "float32"}
    if settings.max_adapters:
        told |= {
            "enable_lora": True,
            "max_loras": settings.max_adapters + spare_adapters,
            "max_lora_rank": settings.max_adapter_rank,
        }
    return told
