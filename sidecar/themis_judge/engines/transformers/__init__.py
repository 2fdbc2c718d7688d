"""The transformers engine: the embedded default, and the numerical reference for the others."""

from themis_judge.engines.transformers.engine import TransformersEngine, TransformersSettings

__all__ = ["TransformersEngine", "TransformersSettings"]
