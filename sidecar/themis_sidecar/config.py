"""All settings of the server: one frozen object, read from flags, environment and a YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    CliSuppress,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)


class Section(BaseModel):
    """A named part of the settings; attribute docstrings are the help texts of its flags."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ListenConfig(Section):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(default=50051, ge=0, le=65535)
    """Port to bind; 0 takes a free one, which the line 'serving' tells."""
    max_connection_age_s: PositiveFloat | None = None
    """Age at which a connection is asked to close, so that clients find new replicas; default: never."""


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
    model: str = Field(min_length=1)
    """A folder, a GGUF file or a model's name, as the engine takes it."""
    transformers: TransformersConfig = TransformersConfig()
    openai: OpenAIConfig = OpenAIConfig()


class JudgeConfig(Section):
    """How it judges; part of the version's identity."""

    data_order: Literal["cached", "paper"] = "cached"
    """Where the data stand in the prompt: after all static text, or where the paper puts them."""
    verdict_order: Literal["rating_first", "reason_first"] = "rating_first"
    """Whether the rating or the reasons come first."""
    label_mass_threshold: float = Field(default=0.5, ge=0, le=1)
    """Label mass below which a verdict is OFF_FORMAT."""
    scenario_dirs: tuple[Path, ...] = ()
    """Folders with scenarios of your own, one YAML file each; a later one replaces an earlier id."""
    reference_scenarios: tuple[str, ...] | None = None
    """Scenarios whose references are shown to the judge; default: as each scenario says."""


class LimitsConfig(Section):
    """What the server takes on, and for how long."""

    max_items: PositiveInt = 512
    """Items in a call."""
    max_message_bytes: PositiveInt = 64 * 1024 * 1024
    """Bytes of a message on the wire, either way."""
    max_item_bytes: PositiveInt = 1024 * 1024
    """Bytes of one item."""
    stream_window: PositiveInt = 64
    """Items that a stream holds at a time."""
    max_calls: PositiveInt = 1024
    """Calls in flight, streams included."""
    max_queue_tokens: PositiveInt = 2_000_000
    """Tokens admitted and not yet answered, all callers together."""
    max_deadline_s: PositiveFloat = 600.0
    """The longest a call may take; calls without a deadline get this one."""
    answer_margin_s: NonNegativeFloat = 0.1
    """How long before a caller's deadline its items are given up, so that the finished ones still reach it."""
    stuck_after_s: PositiveFloat = 120.0
    """Without progress for so long the engine counts as stuck, and the process ends."""
    flush_s: NonNegativeFloat = 1.0
    """How long callers get to receive their failures before a process with a failed engine ends."""
    drain_notice_s: NonNegativeFloat = 1.0
    """Between health's NOT_SERVING and the refusal of new calls, so that balancers notice first."""
    drain_s: NonNegativeFloat = 45.0
    """How long calls in flight may go on after that."""


class LogConfig(Section):
    """What is logged, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_text: bool = False
    """Whether messages of unexpected errors, which may quote prompts and responses, are written."""


class ServerConfig(BaseSettings):
    """Settings of themis-sidecar. Flags go before environment (THEMIS_LIMITS__MAX_ITEMS=64), that before the file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="THEMIS_",
        env_nested_delimiter="__",
        cli_avoid_json=True,
        use_attribute_docstrings=True,
    )

    listen: ListenConfig = ListenConfig()
    engine: EngineConfig
    judge: JudgeConfig = JudgeConfig()
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


class Launch(BaseModel):
    """What a command line asks for."""

    model_config = ConfigDict(frozen=True)

    config: ServerConfig
    ready_file: Path | None


def read_command_line(arguments: Sequence[str]) -> Launch:
    """Exits with status 2 where the command line is malformed.

    Raises pydantic.ValidationError for unknown or bad settings, SettingsError for what can't be read as one.
    """
    parser = _parser()
    flags: CliSettingsSource[Any] = CliSettingsSource(ServerConfig, root_parser=parser)
    parsed = parser.parse_args(arguments)
    flags(parsed_args={name: value for name, value in vars(parsed).items() if name not in ("config", "ready_file")})
    if parsed.__dict__.get("engine.openai.api_key") is not None:
        parser.error("engine.openai.api_key: give it by environment or file; flags can be read by others")
    sources: dict[str, Any] = {"_cli_settings_source": flags}
    return Launch(config=_with_file(parsed.config)(**sources), ready_file=parsed.ready_file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="themis-sidecar",
        description="Serves a generative judge over gRPC.",
        epilog="Each setting is also an environment variable (THEMIS_ENGINE__MODEL for --engine.model) and a key of "
        "the configuration file. Flags go before environment, environment before file.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML, with the sections shown below")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="gets host:port as soon as the server serves")
    return parser


def _with_file(path: Path | None) -> type[ServerConfig]:
    if path is None:
        return ServerConfig
    _check_mapping(path)

    class WithFile(ServerConfig):
        model_config = SettingsConfigDict(yaml_file=path, yaml_file_encoding="utf-8")

    return WithFile


def _check_mapping(path: Path) -> None:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: can't be read as YAML: {error}") from error
    if data is not None and not isinstance(data, dict):
        raise SettingsError(f"{path}: holds no mapping of settings")
