"""What the demo made, as people read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from themis_judge.store.files import Files
from themis_pipeline.archive.place import open_files
from themis_pipeline.archive.reader import read, snapshot
from themis_pipeline.archive.record import Record

SHOWN = 8
TEXT_CHARACTERS = 26


def open_archive(folder: Path) -> Files:
    return open_files(str(folder))


def records(archive: Files) -> list[Record]:
    """All that manifests name. Raises CorruptArchive."""
    return list(read(archive, snapshot(archive)))


def scored(found: Sequence[Record]) -> list[Record]:
    return [record for record in found if record.log_perplexity_ratio is not None]


def kinds(found: Sequence[Record]) -> str:
    counts = Counter((record.labeller, record.mode) for record in found)
    return ", ".join(f"{count} {mode} by {labeller}" for (labeller, mode), count in sorted(counts.items()))


def table(found: Sequence[Record]) -> Table:
    """A few with their difficulty, of each scenario in turn."""
    shown = Table(title="a few of the records", box=None, padding=(0, 1))
    for name in ("scenario", "mode", "label", "IFD", "ratio", "instruction", "response"):
        shown.add_column(name, justify="right" if name in ("IFD", "ratio") else "left", no_wrap=True)
    for record in _mixed(scored(found))[:SHOWN]:
        shown.add_row(
            record.scenario,
            record.mode,
            str(record.rating or record.preference),
            f"{record.log_perplexity_ratio:+.3f}",
            "" if record.mean_loss_ratio is None else f"{record.mean_loss_ratio:.3f}",
            _short(record.messages[-1].text),
            _short(record.responses[0]),
        )
    return shown


def _mixed(found: Sequence[Record]) -> list[Record]:
    """Each scenario's first, then each one's second, and so on."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, str, int]] = []
    for record in found:
        turns.append((seen[record.scenario], record.scenario, len(turns)))
        seen[record.scenario] += 1
    return [found[place] for *_, place in sorted(turns)]


def _short(text: str) -> Text:
    line = " ".join(text.split())
    return Text(line if len(line) <= TEXT_CHARACTERS else f"{line[: TEXT_CHARACTERS - 1]}…")
