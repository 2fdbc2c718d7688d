"""What of the vLLM engine needs no vLLM running: its settings, its version range, the reads that labels need."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from themis_judge.engines.base import EngineUnavailable, Labels, Prompt
from themis_judge.engines.vllm import VLLMEngine, VLLMSettings
from themis_judge.engines.vllm.launch import check_version, start
from themis_judge.engines.vllm.reads import reads
from themis_judge.engines.vllm.settings import arguments, environment


@pytest.mark.parametrize("version", ["0.24.0", "0.32.0", "0.32.1.dev3+cpu", "0.39.9"])
def test_versions_that_are_known(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["0.23.0", "0.40.0", "1.0.0", "dev", ""])
def test_versions_that_are_not(version: str) -> None:
    with pytest.raises(EngineUnavailable, match=r">=0\.24,<0\.40"):
        check_version(version)


MODULES = {
    "engine.arg_utils": "AsyncEngineArgs",
    "exceptions": "VLLMValidationError",
    "platforms": "current_platform",
    "v1.engine.async_llm": "AsyncLLM",
}


@pytest.mark.parametrize("modules", [{}, MODULES])
def test_a_vllm_of_another_interface_is_told_with_its_version(
    modules: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without the modules that are used, and one whose objects have none of the attributes."""
    package = ModuleType("vllm")
    package.__dict__["__version__"] = "0.33.1"
    monkeypatch.setitem(sys.modules, "vllm", package)
    for name in [name for name in sys.modules if name.startswith("vllm.")]:
        monkeypatch.delitem(sys.modules, name)
    for name, member in modules.items():
        module = ModuleType(f"vllm.{name}")
        module.__dict__[member] = type(member, (Exception,), {})
        monkeypatch.setitem(sys.modules, f"vllm.{name}", module)
    with pytest.raises(EngineUnavailable, match=r"vLLM 0\.33\.1 is not used as this engine knows it") as caught:
        start(VLLMSettings("m"), Path("/m"))
    assert isinstance(caught.value.__cause__, AttributeError if modules else ImportError)


def test_vllm_phones_nobody_and_keeps_prompts_out_of_its_log() -> None:
    settings = VLLMSettings("m")
    assert environment(settings)["VLLM_NO_USAGE_STATS"] == "1"
    assert arguments(settings, Path("/m"))["enable_log_requests"] is False


def test_only_safetensors_and_no_remote_code_unless_asked() -> None:
    told = arguments(VLLMSettings("m"), Path("/m"))
    assert (told["load_format"], told["trust_remote_code"]) == ("safetensors", False)
    assert arguments(VLLMSettings("m", trust_remote_code=True), Path("/m"))["trust_remote_code"] is True


def test_what_is_left_to_vllm_is_not_told() -> None:
    settings = VLLMSettings("m")
    names = {
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_USE_V2_MODEL_RUNNER",
        "VLLM_BATCH_INVARIANT",
    }
    assert names.isdisjoint(environment(settings))
    told = arguments(settings, Path("/m"))
    assert told["max_model_len"] is told["max_num_seqs"] is told["max_num_batched_tokens"] is None
    assert "enable_lora" not in told


def test_settings_reach_vllm_under_its_own_names() -> None:
    settings = VLLMSettings(
        "m",
        quantization="fp8",
        context_tokens=2048,
        tensor_parallel_size=4,
        data_parallel_size=2,
        cpu_cache_gib=3,
        cpu_reserved_cores=0,
        runner="v2",
        batch_invariant=True,
        max_adapters=2,
        max_adapter_rank=32,
    )
    assert dict(environment(settings)) | {
        "VLLM_CPU_KVCACHE_SPACE": "3",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_USE_V2_MODEL_RUNNER": "1",
        "VLLM_BATCH_INVARIANT": "1",
    } == environment(settings)
    told = arguments(settings, Path("/m"))
    assert (told["quantization"], told["max_model_len"]) == ("fp8", 2048)
    assert (told["tensor_parallel_size"], told["data_parallel_size"]) == (4, 2)
    assert (told["enable_lora"], told["max_loras"], told["max_lora_rank"]) == (True, 2, 32)
    assert told["hf_overrides"] == {"head_dtype": "float32"}
    assert "hf_overrides" not in arguments(VLLMSettings("m", dtype="float32"), Path("/m"))


def test_the_first_runner_is_a_choice_too() -> None:
    assert environment(VLLMSettings("m", runner="v1"))["VLLM_USE_V2_MODEL_RUNNER"] == "0"


def test_single_tokens_are_one_read() -> None:
    assert reads(((5,), (6,), (7,))) == (((), (5, 6, 7)),)


def test_labels_share_the_reads_of_their_beginnings() -> None:
    assert reads(((1, 9), (1, 0, 9), (2, 9))) == (((), (1, 2)), ((1,), (9, 0)), ((1, 0), (9,)), ((2,), (9,)))


def test_more_tokens_than_vllm_tells_at_a_time_are_several_reads() -> None:
    asked = reads(tuple((token,) for token in range(300)))
    assert all(beginning == () and len(tokens) <= 128 for beginning, tokens in asked)
    assert [token for _, tokens in asked for token in tokens] == list(range(300))


async def test_nothing_is_answered_before_loading() -> None:
    engine = VLLMEngine(VLLMSettings("m"))
    assert engine.failure is None
    for view in (engine, engine.background(), engine.adapted("a", Path("/a"), "d")):
        with pytest.raises(EngineUnavailable, match="not loaded"):
            await view.label_logprobs(Prompt(((1,),)), Labels(("a",), ((1,),)))


async def test_a_folder_without_safetensors(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle may be anything")
    with pytest.raises(EngineUnavailable, match="safetensors are loaded and nothing else"):
        await VLLMEngine(VLLMSettings(str(tmp_path))).load()
