"""All settings together: one frozen object, read from flags, environment and a YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from themis_sidecar.config.engine import EngineConfig
from themis_sidecar.config.observe import HttpConfig, TracingConfig
from themis_sidecar.config.security import SecurityConfig
from themis_sidecar.config.serving import JudgeConfig, LimitsConfig, ListenConfig, LogConfig
from themis_sidecar.config.supervisor import SupervisorConfig
from themis_sidecar.config.versions import StoreConfig, VersionsConfig

SUPERVISE = "--supervise"
LAUNCH_FLAGS = ("config", "ready_file", "supervise")
"""Of the command line alone; all other flags are settings."""


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
    engine: EngineConfig = EngineConfig()
    judge: JudgeConfig = JudgeConfig()
    limits: LimitsConfig = LimitsConfig()
    log: LogConfig = LogConfig()
    http: HttpConfig = HttpConfig()
    tracing: TracingConfig = TracingConfig()
    security: SecurityConfig = SecurityConfig()
    store: StoreConfig = StoreConfig()
    versions: VersionsConfig = VersionsConfig()
    supervisor: SupervisorConfig = SupervisorConfig()

    @model_validator(mode="after")
    def _tokens_are_safe(self) -> ServerConfig:
        self.security.check_host(self.listen.host)
        if self.http.compat.enabled:
            self.security.check_http_host(self.http.host)
        return self

    @model_validator(mode="after")
    def _one_source(self) -> ServerConfig:
        """Weights come from a model or from a store: with both, nobody could say which judge is meant."""
        if self.store.url is None and not self.engine.model:
            raise ValueError("engine.model: is needed, or store.url in its place")
        if self.store.url is not None and self.engine.model:
            raise ValueError("engine.model: the store's versions bring the models; set engine.model or store.url")
        if self.store.url is not None and self.engine.kind == "openai":
            raise ValueError("engine.kind: an endpoint's weights can't be exchanged; use store.url with another engine")
        if self.store.url is not None and self.judge != JudgeConfig():
            raise ValueError("judge: with store.url each version brings these settings; publish them with it")
        return self

    @model_validator(mode="after")
    def _versions_fit_the_device(self) -> ServerConfig:
        """Each set of weights is a vLLM of its own, which takes its share of the device for itself."""
        most, share = self.versions.max_resident, self.engine.vllm.gpu_memory_utilization
        if self.store.url is not None and self.engine.kind == "vllm" and most * share > 1:
            raise ValueError(
                f"engine.vllm.gpu_memory_utilization: {share:g} for each of versions.max_resident = {most} is more "
                "than there is; lower one of them, so that their product is 1 at most"
            )
        return self

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
    supervise: bool = False


def read_command_line(arguments: Sequence[str]) -> Launch:
    """Exits with status 2 where the command line is malformed.

    Raises pydantic.ValidationError for unknown or bad settings, SettingsError for what can't be read as one.
    """
    parser = _parser()
    flags: CliSettingsSource[Any] = CliSettingsSource(ServerConfig, root_parser=parser)
    parsed = parser.parse_args(arguments)
    flags(parsed_args={name: value for name, value in vars(parsed).items() if name not in LAUNCH_FLAGS})
    if parsed.__dict__.get("engine.openai.api_key") is not None:
        parser.error("engine.openai.api_key: give it by environment or file; flags can be read by others")
    sources: dict[str, Any] = {"_cli_settings_source": flags}
    config = _with_file(parsed.config)(**sources)
    return Launch(config=config, ready_file=parsed.ready_file, supervise=parsed.supervise)


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
    parser.add_argument(SUPERVISE, action="store_true", help="start the server again when it dies; see supervisor.*")
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
