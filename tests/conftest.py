"""What holds for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from themis_judge.engines.vllm import VLLMEngine

from themis_pipeline.local.broker import KafkaBroker, kafka_broker

JARS = Path(__file__).parents[1] / ".cache/kafka"
# So that tests of members that die or freeze needn't wait for Kafka's own six and ten seconds.
SHORT = {
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
}
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI everything runs: a test that is skipped there has failed."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longreprtext}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for files that skip themselves."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped in CI: {report.longreprtext}"
    return report


# ---------------------------------------------------------------------------------------------------- Kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A real broker, started once; where Java or Maven is missing, tests fail. Its topics are shared: name your own."""
    with kafka_broker(tmp_path_factory.mktemp("kafka"), JARS, settings=SHORT) as broker:
        yield broker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """kafka-python leaves sockets of connections that it gives up to the garbage collector (3.0.12): to that of the
    tests that use it, and of no others."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"))


@pytest.fixture(autouse=True)
def _sockets_collected(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "kafka" in request.fixturenames:
        gc.collect()


# ---------------------------------------------------------------------------------------------------- models


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The folder of the small instruct model, dequantised; where it is not installed, tests fail."""
    from themis_judge.engines.transformers.gguf import dequantised
    from themis_judge.engines.transformers.gguf import small_model as file

    return dequantised(file())


_TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    # Far above what training starts from: attention must be sharp and the logits apart, or every mistake is small.
    "initializer_range": 0.2,
}
_EXPERTS = {"num_experts_per_tok": 2, "sliding_window": None}
_SCALES = {"logits_scaling": 2.0, "attention_multiplier": 0.3, "embedding_multiplier": 2.0, "residual_multiplier": 0.7}
# name: (model type, what differs from _TINY)
TINY_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama_untied": ("llama", {"tie_word_embeddings": False}),
    # With heads of a width that vLLM's attention on CPUs knows.
    "llama_wide": ("llama", {"head_dim": 32, "tie_word_embeddings": False}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2_untied": ("qwen2", {"tie_word_embeddings": False}),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "mixtral": ("mixtral", {**_EXPERTS, "num_local_experts": 4, "tie_word_embeddings": False}),
    "cohere": ("cohere", {"logit_scale": 0.5, "tie_word_embeddings": True}),
    "cohere_untied": ("cohere", {"logit_scale": 0.5, "tie_word_embeddings": False}),
    "granite": ("granite", {**_SCALES, "tie_word_embeddings": True}),
    "granite_untied": ("granite", {**_SCALES, "tie_word_embeddings": False}),
    # Windows shorter than the prompts, and a cap that the scores meet: both must be seen to matter.
    "gemma2": ("gemma2", {"sliding_window": 64, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0,
                          "query_pre_attn_scalar": 16, "tie_word_embeddings": True}),
    "mistral": ("mistral", {"sliding_window": 64, "tie_word_embeddings": False}),
    # Multiplies its logits under a name of its own, and is no plain stack of attention.
    "falcon_h1": ("falcon_h1", {"lm_head_multiplier": 0.5, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16,
                                "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}),
    # Turns positions differently once a text is longer than it was trained on.
    "llama_longrope": ("llama", {"rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 256, "factor": 16.0,
        "short_factor": [1.0] * 8, "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]}}),
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes folders of tiny models with random weights: `tiny_model(name, seed=0)`, name as in TINY_MODELS.
    Equal ones are made once."""
    made: dict[tuple[str, int], Path] = {}

    def make(name: str, seed: int = 0) -> Path:
        if (name, seed) not in made:
            made[name, seed] = _write_tiny(name, seed, tmp_path_factory.mktemp(f"{name}-{seed}"))
        return made[name, seed]

    return make


def _write_tiny(name: str, seed: int, folder: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _tiny_tokenizer()
    kind, settings = TINY_MODELS[name]
    ids = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(kind, **{**_TINY, **settings, **ids})
        )
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases start as ones and zeros, which would hide them
                parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tiny_tokenizer() -> Any:
    """A byte-level BPE of a few hundred tokens, learnt from the judge's own texts, with ChatML and lone digits."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    from themis_judge.prompts import TEMPLATE_TEXTS
    from themis_judge.scenarios import load_scenarios

    texts = [text for entry in TEMPLATE_TEXTS for text in ([entry] if isinstance(entry, str) else entry)]
    texts += [criterion.text for scenario in load_scenarios().values() for criterion in scenario.criteria]
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=768, special_tokens=controls, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, bos_token=controls[1], eos_token=controls[2], pad_token=controls[0]
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


# ---------------------------------------------------------------------------------------------------- vLLM


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm_small(small_model: Path) -> AsyncIterator[VLLMEngine]:
    """vLLM with the small model, as on a CPU in production. Loads for a minute or two: once a session."""
    from themis_judge.engines.vllm import VLLMEngine, VLLMSettings

    engine = VLLMEngine(VLLMSettings(str(small_model), enforce_eager=True, cpu_cache_gib=1, context_tokens=4096))
    await engine.load()
    yield engine
    await engine.unload()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm_tiny(tiny_model: Callable[..., Path]) -> AsyncIterator[VLLMEngine]:
    """vLLM with a tiny random model in float32, four requests at a time, adapters on."""
    from themis_judge.engines.vllm import VLLMEngine, VLLMSettings

    settings = VLLMSettings(
        str(tiny_model("llama_wide")),
        dtype="float32",
        enforce_eager=True,
        cpu_cache_gib=1,
        max_batch_requests=4,
        max_adapters=2,
        max_in_flight=32,
    )
    engine = VLLMEngine(settings)
    await engine.load()
    yield engine
    await engine.unload()
