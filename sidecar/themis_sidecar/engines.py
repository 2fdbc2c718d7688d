"""Builds the engine that the settings name. Each is imported only if it's wanted, with the libraries it needs."""

from __future__ import annotations

from themis_judge.engines.base import BatchObserver, Engine, unobserved
from themis_sidecar.config import EngineConfig, OpenAIConfig


def build_engine(config: EngineConfig, stuck_after_s: float, observe: BatchObserver = unobserved) -> Engine:
    """observe: told of each batch by engines that form batches here."""
    if config.kind == "transformers":
        return _transformers(config, stuck_after_s, observe)
    if config.kind == "vllm":
        return _vllm(config, stuck_after_s)
    return _openai(config)


def _transformers(config: EngineConfig, stuck_after_s: float, observe: BatchObserver) -> Engine:
    from themis_judge.engines.transformers import TransformersEngine, TransformersSettings

    own = config.transformers
    return TransformersEngine(
        TransformersSettings(
            model=config.model,
            dtype=own.dtype,
            device=own.device,
            threads=own.threads,
            max_batch_tokens=own.max_batch_tokens,
            max_batch_s=own.max_batch_s,
            cache_tokens=own.cache_tokens,
            stuck_after_s=stuck_after_s,
            context_tokens=own.context_tokens,
            trust_remote_code=config.trust_remote_code,
        ),
        observe,
    )


def _vllm(config: EngineConfig, stuck_after_s: float) -> Engine:
    from themis_judge.engines.vllm import VLLMEngine, VLLMSettings

    # Each of its section's settings has the same name on both sides; a test holds that.
    return VLLMEngine(
        VLLMSettings(
            model=config.model,
            stuck_after_s=stuck_after_s,
            trust_remote_code=config.trust_remote_code,
            **config.vllm.model_dump(),
        )
    )


def _openai(config: EngineConfig) -> Engine:
    from themis_judge.engines.openai import OpenAIEngine, OpenAISettings

    own = config.openai
    return OpenAIEngine(
        OpenAISettings(
            base_url=own.base_url,
            model=config.model,
            api=own.api,
            api_key=_api_key(own),
            concurrency=own.concurrency,
            timeout_s=own.timeout_s,
            attempts=own.attempts,
            context_tokens=own.context_tokens,
            top_logprobs=own.top_logprobs,
            max_tokens_field=own.max_tokens_field,
            grammar_field=own.grammar_field,
        )
    )


def _api_key(config: OpenAIConfig) -> str | None:
    if config.api_key_file is not None:
        return config.api_key_file.read_text(encoding="utf-8").strip()
    return None if config.api_key is None else config.api_key.get_secret_value()
