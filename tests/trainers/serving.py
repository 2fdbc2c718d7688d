"""The judge's process. The server's packages need not be where TRL's newest version is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.integration.sidecar_running import ROOT, Running, running

PYTHON = ROOT / ".venv/bin/python"
MODULE = "tests.trainers.vowel_judge"


@contextmanager
def vowel_judge(
    folder: Path, *arguments: str, port: int = 0, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Running]:
    """From serving to killed."""
    with running(folder, *arguments, module=MODULE, port=port, environment=environment, python=str(PYTHON)) as process:
        yield process
