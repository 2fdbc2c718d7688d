"""A writer that is killed as it creates a manifest: `python -m ... ROOT manifest|after`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.unit.pipeline.archive_samples import TOPIC, record
from themis_judge.store.local import LocalFiles
from themis_pipeline.archive import PartitionWriter
from themis_pipeline.archive.manifests import MANIFESTS

_OFFSETS, _STEP = 20, 4


class Deadly(LocalFiles):
    """Its first manifest is created; then it dies: just after that, or when the second would be created."""

    def __init__(self, root: Path, step: str) -> None:
        super().__init__(root)
        self._step = step
        self._created = 0

    def create(self, path: str, data: bytes) -> None:
        manifest = path.startswith(MANIFESTS)
        if manifest and self._created and self._step == "manifest":
            os.kill(os.getpid(), signal.SIGKILL)
        super().create(path, data)
        self._created += manifest
        if manifest and self._step == "after":
            os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, step: str) -> None:
    writer = PartitionWriter(Deadly(Path(root), step), TOPIC, 0)
    while writer.position < _OFFSETS:
        end = writer.position + _STEP
        writer.write([record(offset) for offset in range(writer.position, end)], end)


if __name__ == "__main__":
    main(*sys.argv[1:])
