"""The end of a run: pairs from what was judged, in the order of the input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from themis_client.errors import BadRequest
from themis_client.failure import Failure
from themis_client.pairs import columns, output
from themis_client.pairs.choice import Choice
from themis_client.pairs.prompt import Prompt
from themis_client.pairs.record import Failed, Judged, Record
from themis_client.pairs.source import Source
from themis_client.pairs.summary import Summary


@dataclass(frozen=True, slots=True)
class Finish:
    """by: what the judge was asked, for the column of that name."""

    source: Source
    choice: Choice
    by: str
    version: str

    def write(self, records: Iterator[Record], chat: bool, pairs: Path, failures: Path) -> Summary:
        """Both files; the second only if anything failed. chat: whether the prompts are messages."""
        summary = Summary(self.version)
        with output.pairs_at(pairs, chat) as good, output.failures_at(failures) as bad:
            for row in self.source.rows():
                entry = next(records, None)
                if entry is None or entry.line != row.number:
                    raise BadRequest(f"the input was changed while it was read: line {row.number} is not as it was")
                if isinstance(entry, Failed):
                    summary.add_failed(entry.status, entry.retryable)
                    bad.write(entry.columns())
                elif isinstance(row.item, Failure):
                    raise BadRequest(f"the input was changed while it was read: {row.item.error}")
                else:
                    self._write(row.item, entry, good, summary)
        return summary

    def _write(self, prompt: Prompt, entry: Judged, writer: output.Writer, summary: Summary) -> None:
        chosen = self.choice.of(entry.marks)
        summary.add(chosen)
        for pair in chosen.pairs:
            writer.write(columns.row(prompt, pair, entry.line, entry.scenario, self.by, self.version))
