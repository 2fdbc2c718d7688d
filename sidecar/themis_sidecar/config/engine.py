"""Settings of what computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import CliSuppress

from themis_sidecar.config.section import Section


class TransformersConfig(Section):
    """Engine `transformers`: the model runs in this process."""

    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    """Precision of weights and activations."""
    device: str = "cpu"
    """A torch device: cpu, cuda, cuda:1."""
    threads: NonNegativeInt = 0
    """Threads on a CPU; 0 takes all cores."""
    context_tokens: NonNegativeInt = 0
    """The longest prompt with its answer; 0 takes the model's own."""
    max_batch_tokens: PositiveInt = 16_384
    """The most tokens computed at a time."""
    max_batch_s: PositiveFloat = 3.0
    """The longest a batch may be expected to take: until it ends, a cancelled item goes on costing."""
    cache_tokens: NonNegativeInt = 32_768
    """Tokens whose keys and values are held for shared beginnings."""


class VLLMConfig(Section):
    """Engine `vllm`: the model runs in processes of vLLM's beside this one. Names and meanings are vLLM's where it has
    the setting too."""

    dtype: Literal["auto", "bfloat16", "float32", "float16"] = "bfloat16"
    """Precision of weights and activations."""
    exact_logits: bool = True
    """Whether the last product is made in float32: a rating depends on it more than on all else together. The
    oldest vLLMs that are supported make it in dtype all the same."""
    quantization: str | None = None
    """How weights are quantised: fp8, awq and others; default: as the model's own configuration says."""
    context_tokens: NonNegativeInt = 0
    """The longest prompt with its answer; 0 takes the model's own."""
    tensor_parallel_size: PositiveInt = 1
    """Devices over which each layer is spread."""
    pipeline_parallel_size: PositiveInt = 1
    """Groups of devices over which the layers are spread."""
    data_parallel_size: PositiveInt = 1
    """Copies of the model, between which requests are balanced."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory, or of a CPU's, that is taken; with store.url by each of versions.max_resident."""
    cpu_cache_gib: PositiveInt | None = None
    """Memory for held prefixes on a CPU, in GiB; default: as much as vLLM finds right."""
    cpu_reserved_cores: NonNegativeInt | None = None
    """Cores of a CPU that the model leaves to the rest; default: as many as vLLM finds right."""
    enforce_eager: bool = False
    """Whether to run without compiling: loads faster, and on a CPU costs nothing."""
    runner: Literal["auto", "v1", "v2"] = "auto"
    """Which of its model runners is used: they read log-likelihoods in different ways."""
    batch_invariant: bool = False
    """Whether a prompt's numbers are the same whatever shares its batch; needs a GPU, and costs speed."""
    prefix_caching: bool = True
    """Whether shared beginnings are computed once."""
    max_batch_tokens: NonNegativeInt = 0
    """The most tokens computed at a time; 0 takes vLLM's own."""
    max_batch_requests: NonNegativeInt = 0
    """The most requests computed at a time; 0 takes vLLM's own."""
    max_adapters: NonNegativeInt = 0
    """LoRA adapters that may be in one batch; 0 loads none at all."""
    max_adapter_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """The highest rank of an adapter."""
    seed: NonNegativeInt = 0
    """Seed of whatever has none of its own."""
    max_in_flight: PositiveInt = 1024
    """Questions that vLLM is given at a time; more are refused."""


class OpenAIConfig(Section):
    """Engine `openai`: the model runs behind an OpenAI-compatible endpoint."""

    base_url: str = "https://api.openai.com/v1"
    """The endpoint, up to and including /v1."""
    api: Literal["chat", "completions"] = "chat"
    """Which of the endpoint's interfaces is used."""
    api_key: CliSuppress[SecretStr | None] = None
    """The endpoint's key. Environment or file only: flags can be read by every user of the machine."""
    api_key_file: Path | None = None
    """A file that holds the endpoint's key, in place of api_key."""
    concurrency: PositiveInt = 32
    """Requests in flight."""
    timeout_s: PositiveFloat = 120.0
    """The longest one request may take."""
    attempts: PositiveInt = 5
    """How often a request is tried in all."""
    context_tokens: PositiveInt = 32_768
    """The longest prompt with its answer that the endpoint takes."""
    top_logprobs: NonNegativeInt = 20
    """Alternatives asked for at each place; 0 where the endpoint tells no probabilities."""
    max_tokens_field: str = "max_tokens"
    """What the endpoint calls the length limit: newer models take max_completion_tokens."""
    grammar_field: str | None = None
    """Where the endpoint takes a grammar, structured_outputs.grammar for vLLM; default: it takes none."""

    @model_validator(mode="after")
    def _one_key(self) -> OpenAIConfig:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("set api_key or api_key_file, not both")
        return self


class EngineConfig(Section):
    """What computes."""

    kind: Literal["transformers", "vllm", "openai"] = "transformers"
    """The engine."""
    model: str = ""
    """A folder, a GGUF file or a model's name, as the engine takes it; needed where there is no store."""
    trust_remote_code: bool = False
    """Dangerous: runs code that comes with the model, with all that this process may do and read. Without it a model
    that names such code is refused."""
    transformers: TransformersConfig = TransformersConfig()
    vllm: VLLMConfig = VLLMConfig()
    openai: OpenAIConfig = OpenAIConfig()
