"""What is read from vLLM's answers, and what is found before it starts: vLLM is imported here, and not run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from themis_judge.engines.base import EngineError, EngineUnavailable
from themis_judge.engines.vllm import VLLMEngine, VLLMSettings
from themis_judge.engines.vllm.launch import prepare


def answer(*rows: list[float]) -> SimpleNamespace:
    """An answer about the tokens before the last, which is 9 and has -0.5."""
    last = SimpleNamespace(logprobs=SimpleNamespace(token_ids=[4, 9], logprobs=[-3.0, -0.5]))
    return SimpleNamespace(outputs=[last], prompt_token_id_logprobs=list(rows))


def test_likelihoods_that_were_asked_for_by_ids() -> None:
    prepare(VLLMSettings("m"))
    from themis_judge.engines.vllm.questions import told_continuation

    assert told_continuation(answer([-1.0], [-2.0]), 5, (7, 8, 9), by_ids=True) == [-1.0, -2.0, -0.5]
    assert told_continuation(answer(), 5, (9,), by_ids=True) == [-0.5]
    with pytest.raises(EngineError, match="fewer probabilities than there are tokens"):
        told_continuation(answer([-1.0]), 5, (7, 8, 9), by_ids=True)
    with pytest.raises(EngineError, match="no probability for some of the tokens"):
        told_continuation(answer([-1.0], [-2.0]), 5, (7, 8, 10), by_ids=True)


async def test_a_model_without_a_tokenizer(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), folder, ignore=shutil.ignore_patterns("token*", "vocab*", "special*"))
    with pytest.raises(EngineUnavailable, match="has no tokenizer that can be used"):
        await VLLMEngine(VLLMSettings(str(folder))).load()
