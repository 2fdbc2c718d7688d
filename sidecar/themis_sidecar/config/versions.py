"""Settings of the store of judge versions, and of how this replica follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from themis_sidecar.config.section import Section


class StoreConfig(Section):
    """Where judge versions lie."""

    url: str | None = None
    """A folder or an fsspec URL (s3://bucket/judges), shared by all replicas; default: no store, one fixed judge."""
    cache_dir: Path = Path("~/.cache/themis/versions")
    """Where versions of an object store are kept on this machine."""
    cache_bytes: PositiveInt = 200 * 1024**3
    """The most that is kept there, versions in use included."""
    timeout_s: PositiveFloat = 30.0
    """The longest one call of an object store may take, beside the bytes that it moves."""


class KafkaConfig(Section):
    """A topic whose records say that the store has changed; needs the extra `kafka`."""

    bootstrap_servers: tuple[str, ...] = ()
    """Brokers as host:port; default: none, the store is polled only."""
    topic: str = "judge-versions"
    """The topic. What its records hold doesn't matter: each is a hint to look into the store."""
    retry_s: PositiveFloat = 10.0
    """How long to wait before a broker that can't be reached is tried again."""


class VersionsConfig(Section):
    """How this replica follows the versions that the store asks for."""

    replica: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """This replica's name, unique in its fleet and the same after a restart; default: the host's name."""
    max_resident: PositiveInt = 2
    """Sets of weights held at a time, LoRA adapters aside. With 1 a promotion drains, exchanges and resumes."""
    poll_s: PositiveFloat = 2.0
    """How often the store is looked into."""
    report_s: PositiveFloat = 15.0
    """How often the replica reports, changes aside."""
    stale_after_s: PositiveFloat = 60.0
    """A replica that has not reported for so long counts as gone."""
    warm_up_s: PositiveFloat = 300.0
    """How long a version may take to answer its health prompts."""
    shadow_waiting: PositiveInt = 64
    """Items that may wait for the shadow; further ones are dropped, and counted."""
    shadow_load_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The shadow scores only while live work fills at most this share of limits.max_queue_tokens."""
    kafka: KafkaConfig = KafkaConfig()
