"""The language detector that the gates are given: a small model of byte n-grams that comes with its package."""

from __future__ import annotations

from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from themis_pipeline.stages.gates import Detected, Detector


def open_detector() -> Detector:
    """Loads for half a second; each detection takes less than a millisecond."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def detect(text: str) -> Detected:
        language, confidence = identifier.classify(text)
        return Detected(str(language), float(confidence))

    return detect
