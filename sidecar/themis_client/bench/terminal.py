"""What a person sees: the run while it goes on, and its figures when it is over. Needs rich."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from themis_client.bench import words
from themis_client.bench.run import Display, Outcome, Progress
from themis_client.bench.summary import STAGES, Spread, Summary, nearest_rank
from themis_client.bench.verdicts import warnings
from themis_client.failure import RESENT, Status

PLAIN_WIDTH = 120
PLAIN_EVERY_S = 10.0
RECENT_ITEMS = 500
BLOCKS = " ▁▂▃▄▅▆▇█"
COLORS = {"queued": "yellow", "tokenised": "magenta", "computed": "green", "rest": "blue"}
MEANINGS = {
    "queued": "waiting for the engine",
    "tokenised": "rendering and tokenising",
    "computed": "in the batches that computed it",
    "rest": "network, client, retries, others of its call",
}
HISTORY_COLUMNS, BAR_COLUMNS = 60, 36


def console() -> Console:
    """On standard output; as wide as the figures need where that is no terminal."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


# ---------------------------------------------------------------------------------------------------- while it runs


@contextmanager
def live(target: str) -> Iterator[Display]:
    """On standard error: a display that moves on a terminal, and a line now and then elsewhere."""
    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield _Lines(errors).show
        return
    with Live(console=errors, auto_refresh=False, transient=True) as shown:
        moving = _Moving(target)
        yield lambda progress: shown.update(moving.picture(progress), refresh=True)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def show(self, progress: Progress) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PLAIN_EVERY_S
            self._console.print(_status_line(progress), soft_wrap=True)


class _Moving:
    """Keeps a little history, for a line of bars of items per second."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._rates: deque[float] = deque(maxlen=HISTORY_COLUMNS)
        self._last = (0.0, 0)

    def picture(self, progress: Progress) -> RenderableType:
        entries = progress.log.entries
        at_s, count = self._last
        if progress.elapsed_s > at_s and progress.phase == "measuring":
            self._rates.append((len(entries) - count) / (progress.elapsed_s - at_s))
            self._last = progress.elapsed_s, len(entries)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            Text("themis bench", style="bold"), Text(f"{self._target}   Ctrl-C stops, and tells what was seen")
        )
        grid.add_row(Text(progress.phase, style="cyan"), Text(_bar(progress)))
        grid.add_row("items/s", Text(f"{sparkline(self._rates)} {self._rates[-1] if self._rates else 0:.1f}"))
        return Group(grid, Text(_status_line(progress)))


def _bar(progress: Progress, width: int = 40) -> str:
    if progress.of_s is None:
        return f"{progress.elapsed_s:.0f} s"
    done = min(1.0, progress.elapsed_s / progress.of_s)
    filled = round(done * width)
    waiting = " (waiting for the last answers)" if progress.elapsed_s > progress.of_s else ""
    return f"{'█' * filled}{'░' * (width - filled)} {progress.elapsed_s:.0f} of {progress.of_s:g} s{waiting}"


def _status_line(progress: Progress) -> str:
    log = progress.log
    recent = sorted(entry.latency_s for entry in log.entries[-RECENT_ITEMS:] if entry.ok)
    latency = (
        f"p50 {words.seconds(nearest_rank(recent, 0.5))}, p99 {words.seconds(nearest_rank(recent, 0.99))}; "
        if (recent)
        else ""
    )
    done = f"{len(log.entries)} items" if progress.phase == "measuring" else f"{len(log.warm_up)} items of warm-up"
    return (
        f"{progress.phase} {progress.elapsed_s:.0f} s: {done}, {log.in_flight} in flight; {latency}"
        f"{log.attempts.refusals} refusals; client at {progress.cpu_share:.0%} of a core"
    )


# ------------------------------------------------------------------------------------------------ when it is over


def show(outcome: Outcome, console: Console) -> None:
    summary = outcome.summary
    console.print()
    console.print(Text(f"themis bench {outcome.target}", style="bold"), Text(f" {summary.window_s:.1f} s measured"))
    console.print(Text(words.shape(outcome.shape), style="dim"))
    console.print()
    console.print(_rates(outcome))
    if summary.latency is not None:
        console.print(_latencies(summary))
        console.print(_stage_bar(summary))
        console.print()
    console.print(_counts(outcome))
    for warning in warnings(outcome):
        console.print(Text(f"! {warning}", style="bold yellow"))


def _rates(outcome: Outcome) -> RenderableType:
    summary = outcome.summary
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold green")
    grid.add_column()
    offered = "" if outcome.shape.rate is None else f"of {outcome.shape.rate:g} asked for   "
    spark = sparkline([bucket.ok / summary.bucket_s for bucket in summary.timeline])
    grid.add_row(words.rate(summary.items_per_s), f"items/s {offered} {spark}")
    grid.add_row(words.rate(summary.tokens_per_s), "tokens/s, prompts and completions, as the server counted them")
    grid.add_row(words.rate(summary.computed_per_s), "of them computed; the others were cached or shared")
    grid.add_row("")
    return grid


def _latencies(summary: Summary) -> RenderableType:
    table = Table(box=None, padding=(0, 1), title_justify="left")
    for name in ("", "mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_column("")
    rows: list[tuple[str, Spread | None, str, str]] = [("latency", summary.latency, "bold", "from due to answered")]
    rows += [(name, summary.stages.get(name), COLORS[name], MEANINGS[name]) for name in STAGES]
    if summary.latency_all != summary.latency:
        rows.append(("all", summary.latency_all, "red", "latency of failed items too"))
    for name, spread, style, meaning in rows:
        if spread is not None:
            values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
            table.add_row(Text(name, style=style), *map(words.seconds, values), Text(meaning, style="dim"))
    return table


def _stage_bar(summary: Summary) -> RenderableType:
    """Where the mean item's time went, as one bar."""
    means = {name: summary.stages[name].mean for name in STAGES if name in summary.stages}
    whole = sum(means.values()) or 1.0
    bar = Text("\n where it went  ")
    for name, mean in means.items():
        bar.append("█" * round(BAR_COLUMNS * mean / whole), style=COLORS[name])
    bar.append("  " + "  ".join(f"{name} {words.share(mean / whole)}" for name, mean in means.items()), style="dim")
    return bar


def _counts(outcome: Outcome) -> RenderableType:
    summary = outcome.summary
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row("items", _tally(summary.statuses, Status.OK.name))
    grid.add_row("attempts", f"{_tally(summary.attempts, Status.OK.name)} {_refusals(summary)}")
    if summary.prompt_tokens is not None:
        tokens = summary.prompt_tokens
        completion = summary.tokens.completion / tokens.count
        grid.add_row(
            "tokens",
            f"{tokens.mean:.0f} per prompt (p50 {tokens.p50:.0f}, max {tokens.max:.0f}) and {completion:.0f} per "
            f"completion, as the judge counted them; {words.share(summary.cached_share)} of the prompts' were cached",
        )
    grid.add_row("versions", ", ".join(f"{version} ({count})" for version, count in summary.versions.items()) or "none")
    grid.add_row("client", f"{outcome.cpu_share:.0%} of a core, {words.seconds(outcome.late_p99_s)} late at p99")
    return grid


def _tally(counts: dict[str, int], good: str) -> Text:
    parts = [(f"{count} {name}", "green" if name == good else "red") for name, count in counts.items()]
    return Text("  ").join([Text(text, style=style) for text, style in parts]) if parts else Text("none")


def _refusals(summary: Summary) -> str:
    names = {status.name for status in RESENT}
    if not summary.refused_items:
        return ""
    hint = summary.pushback
    told = f"hints of {words.seconds(hint.p50)} (p50), {words.seconds(hint.max)} at most" if hint else "no hints"
    refused = ", ".join(f"{count} {name}" for name, count in summary.attempts.items() if name in names)
    return f"({summary.refused_attempts} answers refused {refused}; {told})"


def sparkline(values: Sequence[float] | deque[float]) -> str:
    """A bar per value, the highest one full."""
    most = max(values, default=0.0)
    if not most:
        return ""
    return "".join(BLOCKS[round(max(0.0, value) / most * (len(BLOCKS) - 1))] for value in values)
