"""Data files that never came to count: their writer died before its manifest, or its answer was lost."""

from __future__ import annotations

from themis_judge.store.clock import store_now_s
from themis_judge.store.files import Files, walk
from themis_pipeline.archive.reader import snapshot
from themis_pipeline.archive.writer import DATA


def sweep(files: Files, older_than_s: float) -> tuple[str, ...]:
    """Removes data files that no manifest names and that are older than that by the store's own clock, and returns
    their paths. Choose a bound far above the longest time that one `write` may take: a writer that is slower would
    name files that are gone. Raises CorruptArchive."""
    before_s = store_now_s(files) - older_than_s
    old = [file.path for file in walk(files, DATA) if file.modified_at_s <= before_s]
    # The manifests are read after the files are listed: what has been named meanwhile is seen.
    named = {file.path for manifest in snapshot(files).manifests for file in manifest.files}
    gone = tuple(path for path in old if path not in named)
    for path in gone:
        files.delete(path)
    return gone
