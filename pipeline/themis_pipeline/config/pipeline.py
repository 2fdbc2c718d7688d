"""All settings together: one frozen object, read from flags, environment and a YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from themis_pipeline.config.archive import ArchiveConfig
from themis_pipeline.config.kafka import KafkaConfig
from themis_pipeline.config.llm import LLMConfig
from themis_pipeline.config.running import LogConfig, MetricsConfig, RunnerConfig
from themis_pipeline.config.sidecar import JudgeConfig, SidecarConfig
from themis_pipeline.config.stages import (
    AnnotateConfig,
    CodeConfig,
    DataConfig,
    DifficultyConfig,
    GateConfig,
    LabelConfig,
    PlanConfig,
    RespondConfig,
    WriterConfig,
)
from themis_pipeline.config.topics import TopicsConfig

SECRETS = ("kafka.tls.key_password", "kafka.sasl.password", "sidecar.token")


class PipelineConfig(BaseSettings):
    """Settings of themis-pipeline. Flags go before environment (THEMIS_PIPELINE_TOPICS__PREFIX=a-), that before the
    file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="THEMIS_PIPELINE_",
        env_nested_delimiter="__",
        cli_avoid_json=True,
        use_attribute_docstrings=True,
    )

    kafka: KafkaConfig = KafkaConfig()
    topics: TopicsConfig = TopicsConfig()
    llm: LLMConfig = LLMConfig()
    sidecar: SidecarConfig = SidecarConfig()
    judge: JudgeConfig = JudgeConfig()
    runner: RunnerConfig = RunnerConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    data: DataConfig = DataConfig()
    code: CodeConfig = CodeConfig()
    plan: PlanConfig = PlanConfig()
    question: WriterConfig = WriterConfig()
    quiz: WriterConfig = WriterConfig()
    gate: GateConfig = GateConfig()
    respond: RespondConfig = RespondConfig()
    label: LabelConfig = LabelConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    difficulty: DifficultyConfig = DifficultyConfig()
    archive: ArchiveConfig = ArchiveConfig()

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


ReadConfig: TypeAlias = Callable[[argparse.Namespace], PipelineConfig]


def add_settings(parser: argparse.ArgumentParser) -> ReadConfig:
    """Adds all settings as flags to a command, and `--config`. What is given back reads them, with environment and
    file, from the parsed arguments; it raises pydantic.ValidationError for unknown or bad settings, SettingsError for
    what can't be read as one, and exits with 2 where a flag carries a secret."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML, with the sections shown below")
    flags: CliSettingsSource[Any] = CliSettingsSource(PipelineConfig, root_parser=parser)

    def read(args: argparse.Namespace) -> PipelineConfig:
        given = {
            name: value for name, value in vars(args).items() if "." in name or name in PipelineConfig.model_fields
        }
        for name in SECRETS:
            if given.get(name) is not None:
                parser.error(f"{name}: give it by environment or file; flags can be read by others")
        flags(parsed_args=given)
        sources: dict[str, Any] = {"_cli_settings_source": flags}
        return _with_file(args.config)(**sources)

    return read


def _with_file(path: Path | None) -> type[PipelineConfig]:
    if path is None:
        return PipelineConfig
    _check_mapping(path)

    class WithFile(PipelineConfig):
        model_config = SettingsConfigDict(yaml_file=path, yaml_file_encoding="utf-8")

    return WithFile


def _check_mapping(path: Path) -> None:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: can't be read as YAML") from error
    if data is not None and not isinstance(data, dict):
        raise SettingsError(f"{path}: holds no mapping of settings")
