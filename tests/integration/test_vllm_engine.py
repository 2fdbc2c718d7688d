"""The vLLM engine behind the seam, on vLLM's CPU build with a tiny random model: its numbers next to the transformers
engine's, and what becomes of requests that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from safetensors.torch import load_file, save_file

from themis_judge.engines.base import (
    Deadline,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    Labels,
    Prompt,
    PromptTooLong,
    Sampling,
    Unsupported,
)
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.vllm import VLLMEngine
from themis_judge.tokens import Encoder

pytestmark = pytest.mark.asyncio(loop_scope="session")

RATINGS = tuple(map(str, range(1, 6)))
LONG_RATINGS = tuple(map(str, range(1, 13)))  # lone digits: "1" begins "10", so that labels are a trie
LONG = Sampling(3000, grammar='root ::= "a"{3500}')  # obeys for thousands of steps, whatever the weights say


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reference(tiny_model: Callable[..., Path]) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(TransformersSettings(str(tiny_model("llama_wide")), dtype="float32", threads=1))
    await engine.load()
    yield engine
    await engine.unload()


def prompt(engine: VLLMEngine | TransformersEngine, question: str, answer: str = "It is. [[") -> Prompt:
    head = tuple(engine.tokenizer.control("<|im_start|>user\nRate the answer from 1 to 5, and say why. " * 8))
    return Prompt((head, tuple(engine.tokenizer.data(question)), tuple(engine.tokenizer.data(answer))))


def labels(engine: VLLMEngine | TransformersEngine, texts: tuple[str, ...] = RATINGS) -> Labels:
    return Encoder(engine.tokenizer).labels(texts)


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)


def vllms_own(name: str) -> float:
    """A figure that vLLM keeps about itself, all of its engines in this process together."""
    from prometheus_client import REGISTRY

    found = [
        sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == f"vllm:{name}"
    ]
    assert found
    return sum(found)


def idle(engine: VLLMEngine) -> bool:
    """Whether vLLM holds no request, neither in this process nor in its scheduler."""
    in_process = core(engine).llm.output_processor.get_num_unfinished_requests()
    return bool(in_process == vllms_own("num_requests_running") == vllms_own("num_requests_waiting") == 0)


def core(engine: VLLMEngine) -> Any:
    return engine._running.core


# ------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("texts", [RATINGS, LONG_RATINGS])
async def test_labels_have_the_reference_engines_probabilities(
    vllm_tiny: VLLMEngine, reference: TransformersEngine, texts: tuple[str, ...]
) -> None:
    for question in ("What is 2 + 2?", "Name a river. " * 30, "?"):
        asked, wanted = prompt(vllm_tiny, question), labels(vllm_tiny, texts)
        found = await vllm_tiny.label_logprobs(asked, wanted)
        expected = await reference.label_logprobs(asked, wanted)
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
        assert found.usage.prompt_tokens == len(asked)
        assert found.usage.computed_s > 0


async def test_labels_that_share_no_token_with_their_neighbours_in_the_batch(
    vllm_tiny: VLLMEngine, reference: TransformersEngine
) -> None:
    """Requests with few and with many labels lie in one batch."""
    asked = [
        (prompt(vllm_tiny, f"Question {n}?"), labels(vllm_tiny, RATINGS if n % 2 else LONG_RATINGS)) for n in range(6)
    ]
    found = await asyncio.gather(*(vllm_tiny.label_logprobs(*one) for one in asked))
    for one, (where, which) in zip(found, asked, strict=True):
        assert one.logprobs == pytest.approx((await reference.label_logprobs(where, which)).logprobs, abs=1e-3)


async def test_shared_beginnings_are_computed_once(vllm_tiny: VLLMEngine) -> None:
    first = await vllm_tiny.label_logprobs(prompt(vllm_tiny, "A first question?"), labels(vllm_tiny))
    second = await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Another one?"), labels(vllm_tiny))
    assert second.usage.cached_tokens > 0
    await vllm_tiny.reset_prefix_cache()
    third = await vllm_tiny.label_logprobs(prompt(vllm_tiny, "A first question?"), labels(vllm_tiny))
    assert third.usage.cached_tokens == 0
    assert third.logprobs == pytest.approx(first.logprobs, abs=1e-3)


async def test_a_prefix_cache_in_use_is_not_said_to_be_reset(vllm_tiny: VLLMEngine) -> None:
    writing = asyncio.create_task(vllm_tiny.generate(prompt(vllm_tiny, "Go on?"), LONG))
    await until(lambda: vllms_own("num_requests_running") > 0)
    with pytest.raises(EngineError, match="prefix cache"):
        await vllm_tiny.reset_prefix_cache()
    writing.cancel()
    await until(lambda: idle(vllm_tiny))


@pytest.mark.parametrize("answer", ["x", "The answer is fifteen, since twelve and three make that."])
async def test_likelihoods_are_the_reference_engines(
    vllm_tiny: VLLMEngine, reference: TransformersEngine, answer: str
) -> None:
    asked, tokens = prompt(vllm_tiny, "What is 12 + 3?", ""), vllm_tiny.tokenizer.data(answer)
    found = await vllm_tiny.loglikelihood(asked, tokens)
    expected = await reference.loglikelihood(asked, tokens)
    assert len(found.logprobs) == len(tokens)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)


async def test_a_text_may_fill_the_context_to_the_last_token(
    vllm_tiny: VLLMEngine, reference: TransformersEngine
) -> None:
    asked = prompt(vllm_tiny, "Why?")
    filling = [65 + n % 26 for n in range(vllm_tiny.info.context_tokens - len(asked))]
    found = await vllm_tiny.loglikelihood(asked, filling)
    assert sum(found.logprobs) == pytest.approx(sum((await reference.loglikelihood(asked, filling)).logprobs), abs=0.5)
    with pytest.raises(PromptTooLong):
        await vllm_tiny.loglikelihood(asked, [*filling, 65])
    whole = replace(asked, segments=(*asked.segments, tuple(filling[:-1])))
    assert (await vllm_tiny.label_logprobs(whole, labels(vllm_tiny))).logprobs is not None
    with pytest.raises(PromptTooLong):
        await vllm_tiny.generate(whole, Sampling(2))


# ------------------------------------------------------------------------------------------------------ texts


async def test_greedy_texts_are_the_reference_engines(vllm_tiny: VLLMEngine, reference: TransformersEngine) -> None:
    asked = prompt(vllm_tiny, "Who was that?")
    found = await vllm_tiny.generate(asked, Sampling(12))
    expected = await reference.generate(asked, Sampling(12))
    assert (found.text, found.cut) == (expected.text, expected.cut)
    assert found.usage.completion_tokens == expected.usage.completion_tokens


async def test_a_stop_ends_a_text_and_is_no_part_of_it(vllm_tiny: VLLMEngine) -> None:
    asked = prompt(vllm_tiny, "Who was that?")
    whole = (await vllm_tiny.generate(asked, Sampling(12))).text
    stop = whole[3:5]
    found = await vllm_tiny.generate(asked, Sampling(12, stop=(stop,)))
    assert found.text == whole.partition(stop)[0]
    assert not found.cut


async def test_a_grammar_is_obeyed_to_its_end(vllm_tiny: VLLMEngine) -> None:
    grammar = 'root ::= "ab" [x-z]{2,4} "."'
    found = await vllm_tiny.generate(prompt(vllm_tiny, "Write."), Sampling(40, grammar=grammar))
    assert found.text.startswith("ab")
    assert found.text.endswith(".")
    assert 5 <= len(found.text) <= 7
    assert set(found.text[2:-1]) <= set("xyz")
    assert not found.cut
    cut = await vllm_tiny.generate(prompt(vllm_tiny, "Write."), Sampling(1, grammar=grammar))
    assert cut.cut


async def test_a_control_token_that_a_grammar_spells_is_written_as_text(vllm_tiny: VLLMEngine) -> None:
    found = await vllm_tiny.generate(prompt(vllm_tiny, "Write."), Sampling(40, grammar='root ::= "<|im_start|>!"'))
    assert found.text == "<|im_start|>!"
    assert found.usage.completion_tokens > 2


async def test_a_seed_repeats_a_sample(vllm_tiny: VLLMEngine) -> None:
    asked = prompt(vllm_tiny, "Tell me more.")
    texts = [(await vllm_tiny.generate(asked, Sampling(16, 0.9, seed=seed))).text for seed in (-1, 7, 7, 8, -1)]
    assert texts[0] == texts[4]
    assert texts[1] == texts[2]
    assert len(set(texts)) == 3


@pytest.mark.parametrize("sampling", [Sampling(4, 2.5), Sampling(4, 0.001)])
async def test_temperatures_that_vllm_would_replace(vllm_tiny: VLLMEngine, sampling: Sampling) -> None:
    with pytest.raises(Unsupported, match="temperatures"):
        await vllm_tiny.generate(prompt(vllm_tiny, "Hm?"), sampling)


async def test_a_grammar_that_is_none_fails_alone(vllm_tiny: VLLMEngine) -> None:
    with pytest.raises(EngineError, match="refused"):
        await vllm_tiny.generate(prompt(vllm_tiny, "Hm?"), Sampling(4, grammar="root ::= ("))
    assert vllm_tiny.failure is None
    assert (await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Hm?"), labels(vllm_tiny))).logprobs is not None


# ------------------------------------------------------------------------------------------- nobody waits any more


async def test_cancelling_aborts_inside_vllm(vllm_tiny: VLLMEngine) -> None:
    tasks = [asyncio.create_task(vllm_tiny.generate(prompt(vllm_tiny, f"Go on, {n}?"), LONG)) for n in range(8)]
    await until(lambda: vllms_own("num_requests_running") == 4)  # some compute, some wait
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert core(vllm_tiny).llm.output_processor.get_num_unfinished_requests() == 0
    await until(lambda: idle(vllm_tiny), 20)
    assert not core(vllm_tiny)._waiting


async def test_cancelling_before_vllm_has_the_request(vllm_tiny: VLLMEngine) -> None:
    for turns in range(6):  # of the event loop, between asking and leaving
        task = asyncio.create_task(vllm_tiny.generate(prompt(vllm_tiny, "Go on?"), LONG))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert core(vllm_tiny).llm.output_processor.get_num_unfinished_requests() == 0
    await until(lambda: vllms_own("num_requests_running") == 0, 20)


async def test_a_deadline_aborts_inside_vllm(vllm_tiny: VLLMEngine) -> None:
    with pytest.raises(DeadlineExceeded):
        await vllm_tiny.generate(prompt(vllm_tiny, "Go on?"), LONG, Deadline.after(0.3))
    await until(lambda: idle(vllm_tiny), 20)
    with pytest.raises(DeadlineExceeded):
        await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Hm?"), labels(vllm_tiny), Deadline.after(-1))


async def test_more_than_it_takes_on_is_refused(vllm_tiny: VLLMEngine) -> None:
    tasks = [asyncio.create_task(vllm_tiny.generate(prompt(vllm_tiny, f"{n}?"), LONG)) for n in range(32)]
    await until(lambda: len(core(vllm_tiny)._waiting) == 32)
    with pytest.raises(EngineOverloaded) as caught:
        await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Hm?"), labels(vllm_tiny))
    assert caught.value.retry_after_s > 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: idle(vllm_tiny), 20)
    assert (await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Hm?"), labels(vllm_tiny))).logprobs is not None


async def test_background_work_waits_for_everybody_else(vllm_tiny: VLLMEngine) -> None:
    background = vllm_tiny.background()
    assert background.info == vllm_tiny.info
    some = Sampling(200, grammar='root ::= "a"{300}')
    tasks = [asyncio.create_task(background.generate(prompt(vllm_tiny, f"{n}?"), some)) for n in range(12)]
    await until(lambda: vllms_own("num_requests_waiting") == 8)  # four are computed at a time
    await vllm_tiny.label_logprobs(prompt(vllm_tiny, "Now?"), labels(vllm_tiny))
    assert sum(not task.done() for task in tasks) >= 4
    assert all(one.cut for one in await asyncio.gather(*tasks))


# ------------------------------------------------------------------------------------------------------ adapters


def write_adapter(base: Path, folder: Path, seed: int) -> tuple[Path, Path]:
    """An adapter of rank 4 on two products of the first layer, and the same weights merged into the model."""
    chance = torch.Generator().manual_seed(seed)
    weights = load_file(base / "model.safetensors")
    parts: dict[str, torch.Tensor] = {}
    for name in ("q_proj", "v_proj"):
        weight = weights[f"model.layers.0.self_attn.{name}.weight"]
        a = torch.randn(4, weight.shape[1], generator=chance) * 0.2
        b = torch.randn(weight.shape[0], 4, generator=chance) * 0.2
        parts[f"base_model.model.model.layers.0.self_attn.{name}.lora_A.weight"] = a
        parts[f"base_model.model.model.layers.0.self_attn.{name}.lora_B.weight"] = b
        weight += 2.0 * b @ a  # alpha / rank
    adapter, merged = folder / f"adapter-{seed}", folder / f"merged-{seed}"
    adapter.mkdir()
    save_file(parts, adapter / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(base, merged)
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    return adapter, merged


async def of_merged(folder: Path, asked: Prompt, wanted: Labels) -> tuple[float, ...]:
    engine = TransformersEngine(TransformersSettings(str(folder), dtype="float32", threads=1))
    await engine.load()
    found = await engine.label_logprobs(asked, wanted)
    await engine.unload()
    assert found.logprobs is not None
    return found.logprobs


async def test_adapters_share_an_engine_and_no_numbers(
    vllm_tiny: VLLMEngine, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    base = tiny_model("llama_wide")
    folders = [write_adapter(base, tmp_path, seed) for seed in (1, 2)]
    asked, wanted = prompt(vllm_tiny, "Which version is this?"), labels(vllm_tiny)
    bare = await vllm_tiny.label_logprobs(asked, wanted)
    # One name for both: what tells them apart is the digest.
    views = [vllm_tiny.adapted("judge", folder, f"digest-{n}") for n, (folder, _) in enumerate(folders)]
    with pytest.raises(EngineUnavailable, match="not loaded"):
        await views[0].label_logprobs(asked, wanted)
    for view in views:
        await view.load()
    assert [view.info.weights_digest for view in views] == ["digest-0", "digest-1"]
    found = await asyncio.gather(*(engine.label_logprobs(asked, wanted) for engine in (*views, vllm_tiny, *views)))
    expected = [await of_merged(merged, asked, wanted) for _, merged in folders]
    for told, right in zip(found, [*expected, bare.logprobs, *expected], strict=True):
        assert told.logprobs == pytest.approx(right, abs=2e-3)
    assert expected[0] != pytest.approx(expected[1], abs=0.1)
    await views[0].unload()
    kept = set(await core(vllm_tiny).llm.list_loras())
    with pytest.raises(EngineUnavailable, match="not loaded"):
        await views[0].label_logprobs(asked, wanted)
    again = vllm_tiny.adapted("judge", folders[1][0], "digest-1")
    await again.load()
    assert len(kept) == 2, "the second, and the neutral one"
    (added,) = set(await core(vllm_tiny).llm.list_loras()) - kept
    assert added > max(kept), "an adapter's number was used again"
    for view in (views[1], again):
        assert (await view.label_logprobs(asked, wanted)).logprobs == pytest.approx(expected[1], abs=2e-3)
        await view.unload()
    assert (await vllm_tiny.label_logprobs(asked, wanted)).logprobs == pytest.approx(bare.logprobs, abs=1e-3)


async def test_an_adapter_that_is_none(vllm_tiny: VLLMEngine, tmp_path: Path) -> None:
    pickled, broken = tmp_path / "pickled", tmp_path / "broken"
    for folder in (pickled, broken):
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    (pickled / "adapter_model.bin").write_bytes(b"a pickle may be anything")
    (broken / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(EngineUnavailable, match="safetensors are loaded and nothing else"):
        await vllm_tiny.adapted("pickled", pickled, "d").load()
    with pytest.raises(EngineUnavailable, match="broken"):
        await vllm_tiny.adapted("broken", broken, "d").load()
    assert vllm_tiny.failure is None
