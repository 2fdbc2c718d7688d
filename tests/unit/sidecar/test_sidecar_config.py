"""Settings: sources, their precedence, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from themis_judge.engines.openai import OpenAISettings
from themis_judge.engines.vllm import VLLMSettings
from themis_judge.version import JudgeSettings
from themis_sidecar.config import JudgeConfig, OpenAIConfig, VLLMConfig, read_command_line

MODEL = ["--engine.model", "m"]


def test_flags_go_before_environment_before_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "themis.yaml"
    file.write_text("engine: {model: file}\nlimits: {max_items: 3, max_calls: 4, drain_s: 5}\n")
    monkeypatch.setenv("THEMIS_LIMITS__MAX_CALLS", "40")
    monkeypatch.setenv("THEMIS_LIMITS__DRAIN_S", "50")
    config = read_command_line(["--config", str(file), "--limits.drain_s", "500"]).config
    assert config.engine.model == "file"
    assert (config.limits.max_items, config.limits.max_calls, config.limits.drain_s) == (3, 40, 500)
    assert config.limits.stream_window == 64


def test_defaults() -> None:
    launch = read_command_line(MODEL)
    assert launch.ready_file is None
    assert (launch.config.listen.host, launch.config.listen.port) == ("127.0.0.1", 50051)
    assert launch.config.engine.kind == "transformers"


def test_defaults_agree_with_the_judges() -> None:
    judge, own = JudgeSettings(), JudgeConfig()
    assert (own.data_order, own.verdict_order) == (judge.data_order, judge.verdict_order)
    assert own.label_mass_threshold == judge.label_mass_threshold
    engine = OpenAISettings(base_url="http://h/v1", model="m")
    for name in OpenAIConfig.model_fields.keys() - {"base_url", "api_key", "api_key_file"}:
        assert getattr(OpenAIConfig(), name) == getattr(engine, name)


def test_the_vllm_engines_settings_are_all_there_with_its_defaults() -> None:
    engine = VLLMSettings("m")
    names = {field.name for field in fields(VLLMSettings)} - {"model", "stuck_after_s", "trust_remote_code"}
    assert VLLMConfig().model_dump() == {name: getattr(engine, name) for name in names}


def test_lists_are_repeated_flags(tmp_path: Path) -> None:
    arguments = ["--judge.scenario_dirs", "/a", "--judge.scenario_dirs", "/b", "--ready-file", str(tmp_path / "r")]
    launch = read_command_line(MODEL + arguments)
    assert launch.config.judge.scenario_dirs == (Path("/a"), Path("/b"))
    assert launch.ready_file == tmp_path / "r"


def test_unknown_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "themis.yaml"
    file.write_text("limitz: {}\nlimits: {max_itemz: 3}\n")
    with pytest.raises(ValidationError, match=r"limits\.max_itemz") as caught:
        read_command_line([*MODEL, "--config", str(file)])
    assert {problem["loc"] for problem in caught.value.errors()} == {("limitz",), ("limits", "max_itemz")}


def test_unknown_environment_in_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEMIS_LIMITS__MAX_ITEMZ", "3")
    with pytest.raises(ValidationError, match="max_itemz"):
        read_command_line(MODEL)


def test_variables_that_kubernetes_sets_for_a_service_of_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THEMIS_PORT", "THEMIS_SERVICE_HOST", "THEMIS_PORT_50051_TCP_ADDR", "THEMIS_JUDGE_SERVICE_HOST"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:50051")
    read_command_line(MODEL)


def test_unknown_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_command_line([*MODEL, "--limits.max_item", "3"])
    assert caught.value.code == 2
    assert "max_item" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--limits.max_items", "0"],
        ["--limits.max_deadline_s", "-1"],
        ["--listen.port", "65536"],
        ["--judge.label_mass_threshold", "1.5"],
        ["--engine.model", ""],
    ],
)
def test_values_out_of_range(arguments: list[str]) -> None:
    with pytest.raises(ValidationError):
        read_command_line(MODEL + arguments)


VLLM_STORE = ("--store.url", "s3://judges", "--engine.kind", "vllm")
HALF = ("--engine.vllm.gpu_memory_utilization", "0.5")


@pytest.mark.parametrize(
    "arguments",
    [
        [*VLLM_STORE, *HALF],
        [*VLLM_STORE, "--versions.max_resident", "1"],
        [*MODEL, "--engine.kind", "vllm"],
        ["--store.url", "s3://judges"],
    ],
)
def test_versions_that_fit_the_device(arguments: list[str]) -> None:
    assert read_command_line(arguments).config.versions.max_resident


def test_a_model_is_needed() -> None:
    with pytest.raises(ValidationError, match="engine"):
        read_command_line([])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "engine.model: is needed, or store.url"),
        ([*MODEL, "--store.url", "s3://judges"], "set engine.model or store.url"),
        (["--store.url", "s3://judges", "--engine.kind", "openai"], "can't be exchanged"),
        (["--store.url", "s3://judges", "--judge.data_order", "paper"], "each version brings these"),
        (["--store.url", "s3://judges", "--versions.replica", "../x"], "replica"),
        (["--store.url", "s3://judges", "--versions.max_resident", "0"], "max_resident"),
        ([*VLLM_STORE], r"gpu_memory_utilization: 0\.9 for each of versions\.max_resident = 2"),
        ([*VLLM_STORE, "--versions.max_resident", "3", *HALF], r"0\.5 for each of versions\.max_resident = 3"),
    ],
)
def test_judges_come_from_one_place(arguments: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        read_command_line(arguments)


def test_a_store_takes_the_place_of_a_model() -> None:
    brokers = '["a:9092","b:9092"]'
    config = read_command_line(["--store.url", "s3://judges", "--versions.kafka.bootstrap_servers", brokers]).config
    assert config.store.url == "s3://judges"
    assert config.versions.kafka.bootstrap_servers == ("a:9092", "b:9092")


@pytest.mark.parametrize("content", ["a: [", "- 1\n", "\x00"])
def test_files_that_hold_no_settings(content: str, tmp_path: Path) -> None:
    file = tmp_path / "themis.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"themis\.yaml"):
        read_command_line([*MODEL, "--config", str(file)])


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "themis.yaml"
    file.write_text("")
    assert read_command_line([*MODEL, "--config", str(file)]).config.engine.model == "m"


def test_the_key_comes_by_environment_or_file_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_command_line([*MODEL, "--engine.openai.api_key", "hidden"])
    assert "hidden" not in capsys.readouterr().err
    monkeypatch.setenv("THEMIS_ENGINE__OPENAI__API_KEY", "hidden")
    config = read_command_line(MODEL).config
    assert config.engine.openai.api_key is not None
    assert config.engine.openai.api_key.get_secret_value() == "hidden"
    assert "hidden" not in repr(config)
    with pytest.raises(ValidationError, match="not both"):
        read_command_line([*MODEL, "--engine.openai.api_key_file", "/key"])


def test_settings_are_frozen() -> None:
    config = read_command_line(MODEL).config
    with pytest.raises(ValidationError):
        config.limits.max_items = 3  # type: ignore[misc]
