"""All settings of the pipeline, a file for each group of sections; see pipeline.py for where they come from."""

from themis_pipeline.config.archive import ArchiveConfig
from themis_pipeline.config.kafka import KafkaConfig, KafkaTlsConfig, SaslConfig
from themis_pipeline.config.llm import BudgetConfig, EndpointConfig, LLMConfig, RateConfig
from themis_pipeline.config.pipeline import PipelineConfig, ReadConfig, add_settings
from themis_pipeline.config.running import LogConfig, MetricsConfig, RunnerConfig
from themis_pipeline.config.section import Section
from themis_pipeline.config.sidecar import JudgeConfig, SidecarConfig, SidecarTlsConfig
from themis_pipeline.config.stages import (
    AnnotateConfig,
    CodeConfig,
    DataConfig,
    DifficultyConfig,
    GateConfig,
    LabelConfig,
    PlanConfig,
    RespondConfig,
    SamplingConfig,
    SourcesConfig,
    WriterConfig,
)
from themis_pipeline.config.topics import TopicsConfig

__all__ = [
    "AnnotateConfig",
    "ArchiveConfig",
    "BudgetConfig",
    "CodeConfig",
    "DataConfig",
    "DifficultyConfig",
    "EndpointConfig",
    "GateConfig",
    "JudgeConfig",
    "KafkaConfig",
    "KafkaTlsConfig",
    "LLMConfig",
    "LabelConfig",
    "LogConfig",
    "MetricsConfig",
    "PipelineConfig",
    "PlanConfig",
    "RateConfig",
    "ReadConfig",
    "RespondConfig",
    "RunnerConfig",
    "SamplingConfig",
    "SaslConfig",
    "Section",
    "SidecarConfig",
    "SidecarTlsConfig",
    "SourcesConfig",
    "TopicsConfig",
    "WriterConfig",
    "add_settings",
]
