"""All settings of the server, a file for each group of sections; see server.py for where they come from."""

from themis_sidecar.config.compat import CompatConfig, MarkersConfig, RewardsScaleConfig
from themis_sidecar.config.engine import EngineConfig, OpenAIConfig, TransformersConfig, VLLMConfig
from themis_sidecar.config.observe import HttpConfig, TracingConfig
from themis_sidecar.config.section import Section
from themis_sidecar.config.security import CallerLimitsConfig, SecurityConfig, TlsConfig
from themis_sidecar.config.server import Launch, ServerConfig, read_command_line
from themis_sidecar.config.serving import JudgeConfig, LimitsConfig, ListenConfig, LogConfig
from themis_sidecar.config.supervisor import SupervisorConfig
from themis_sidecar.config.versions import KafkaConfig, StoreConfig, VersionsConfig

__all__ = [
    "CallerLimitsConfig",
    "CompatConfig",
    "EngineConfig",
    "HttpConfig",
    "JudgeConfig",
    "KafkaConfig",
    "Launch",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "MarkersConfig",
    "OpenAIConfig",
    "RewardsScaleConfig",
    "Section",
    "SecurityConfig",
    "ServerConfig",
    "StoreConfig",
    "SupervisorConfig",
    "TlsConfig",
    "TracingConfig",
    "TransformersConfig",
    "VLLMConfig",
    "VersionsConfig",
    "read_command_line",
]
