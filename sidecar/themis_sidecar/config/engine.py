"""Settings of what computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, SecretStr, model_validator
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
    max_batch_s: PositiveFloat = 2.0
    """The longest a batch may be expected to take: until it ends, a cancelled item goes on costing."""
    cache_tokens: NonNegativeInt = 32_768
    """Tokens whose keys and values are held for shared beginnings."""


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

    kind: Literal["transformers", "openai"] = "transformers"
    """The engine."""
    model: str = ""
    """A folder, a GGUF file or a model's name, as the engine takes it; needed where there is no store."""
    transformers: TransformersConfig = TransformersConfig()
    openai: OpenAIConfig = OpenAIConfig()
