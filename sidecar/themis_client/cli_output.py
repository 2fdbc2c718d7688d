"""Writes results: a table for people, JSON lines in the contract's form, or Parquet."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TextIO, TypeVar

from themis_client.failure import Failure

ResultT = TypeVar("ResultT")

INSTALL = "pip install 'themis-sidecar[cli]'"


class MissingExtra(Exception):
    """A format needs a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Layout(Generic[ResultT]):
    """How one kind of result is shown. cells: of one row of the table; columns: of one row of Parquet, None where a
    failure has none; notes: text of any length, below the table."""

    headers: Sequence[str]
    cells: Callable[[ResultT | Failure], Sequence[str]]
    columns: Callable[[ResultT | Failure], dict[str, Any]]
    schema: Callable[[Any], Any]
    json: Callable[[ResultT | Failure], str]
    notes: Callable[[ResultT], Sequence[str]]


def write(results: Sequence[ResultT | Failure], layout: Layout[ResultT], form: str, path: str | None) -> None:
    """form: "table", "jsonl" or "parquet"; path None is standard output. Raises MissingExtra, OSError."""
    if form == "parquet":
        _write_parquet(results, layout, str(path))
    elif path is None:
        _write_text(results, layout, form, sys.stdout)
    else:
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            _write_text(results, layout, form, file)


def need(form: str) -> None:
    """Raises MissingExtra before anything is paid for."""
    if form == "parquet":
        _pyarrow("pyarrow")


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call once per finished item. Shown on standard error, on a terminal, with rich."""
    bars = _rich("rich.progress") if sys.stderr.isatty() else None
    if bars is None:
        yield lambda: None
        return
    console = importlib.import_module("rich.console").Console(stderr=True)
    with bars.Progress(console=console, transient=True) as bar:
        task = bar.add_task("judging", total=total)
        yield lambda: bar.advance(task)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO) -> None:
    """With rich on a terminal; plain and aligned elsewhere."""
    rich = _rich("rich.table") if file.isatty() else None
    if rich is None:
        _plain_table(headers, rows, file)
        return
    text = importlib.import_module("rich.text").Text
    shown = rich.Table(*headers, box=importlib.import_module("rich.box").SIMPLE)
    for row in rows:
        shown.add_row(*map(text, row))  # as Text: brackets in a key or an error are no markup
    importlib.import_module("rich.console").Console(file=file).print(shown)


def _write_text(results: Sequence[ResultT | Failure], layout: Layout[ResultT], form: str, file: TextIO) -> None:
    if form == "jsonl":
        file.writelines(f"{layout.json(result)}\n" for result in results)
        return
    rows = [(str(number), *layout.cells(result)) for number, result in enumerate(results, start=1)]
    table(("#", *layout.headers), rows, file)
    for number, result in enumerate(results, start=1):
        if not isinstance(result, Failure):
            file.writelines(f"[{number}] {note}\n" for note in layout.notes(result))


def _write_parquet(results: Sequence[ResultT | Failure], layout: Layout[ResultT], path: str) -> None:
    arrow = _pyarrow("pyarrow")
    rows = [layout.columns(result) for result in results]
    _pyarrow("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows, schema=layout.schema(arrow)), path)


def _plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO) -> None:
    lines = [headers, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        file.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _rich(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _pyarrow(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Parquet needs pyarrow: {INSTALL}") from error
