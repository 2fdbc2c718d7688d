"""The vLLM engine: for production. Importing it needs no vLLM; loading it does."""

from themis_judge.engines.vllm.engine import VLLMEngine
from themis_judge.engines.vllm.settings import VLLMSettings

__all__ = ["VLLMEngine", "VLLMSettings"]
