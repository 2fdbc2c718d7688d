"""`make demo`: serves the small model, scores sample conversations over gRPC, shows what comes back, stops.

It shows the machinery, not judging skill: the model has 135 million parameters and was never taught to judge.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from themis_client import Client, CritiqueMode, Failure, Item, Score, ScoreOptions
from themis_client.cli_layouts import bars
from themis_client.jsonform import score_json
from themis_judge.engines.transformers.gguf import dequantised, small_model

OUT = Path("demo-out")
CRITIQUED = "math-bad"
START_S, STOP_S, CALL_S = 180.0, 60.0, 300.0
# The small model puts far less than half of its probability on ratings; a trained judge's threshold would
# rightly turn most of these verdicts away.
LABEL_MASS_THRESHOLD = 0.02


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 110)
    items = samples()
    with console.status("preparing the small model (the first time it is unpacked, which takes half a minute)"):
        model = dequantised(small_model())
    with tempfile.TemporaryDirectory() as folder:
        with console.status("starting the sidecar"), sidecar(model, Path(folder)) as (address, process):
            console.print(f"serving the small model on {address}")
            with Client(address, timeout_s=CALL_S) as client:
                results = score(client, items, console)
                critique = client.score(
                    [item for item in items if item.key == CRITIQUED],
                    options=ScoreOptions(mode=CritiqueMode(max_points=2, max_point_chars=120)),
                )[0]
        console.print(f"the sidecar drained and stopped with exit code {process.returncode}")
    show(results, critique, console)
    write([*results, critique], console)
    return 0 if all(isinstance(result, Score) for result in results) and process.returncode == 0 else 1


def samples() -> list[Item]:
    """The conversations that ship with the package."""
    text = files("themis_sidecar").joinpath("samples/conversations.jsonl").read_text(encoding="utf-8")
    return [Item.from_dict(json.loads(line)) for line in text.splitlines()]


@contextmanager
def sidecar(model: Path, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server in a process of its own, from serving to drained; its log goes to `folder`."""
    ready, log = folder / "ready", folder / "log"
    command = [sys.executable, "-m", "themis_sidecar", "--engine.model", str(model), "--listen.port", "0"]
    command += ["--judge.label_mass_threshold", str(LABEL_MASS_THRESHOLD), "--limits.drain_notice_s", "0"]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stderr=stream)
    try:
        yield _address(process, ready, log), process
        process.terminate()
        process.wait(STOP_S)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    give_up_at = time.monotonic() + START_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise SystemExit(f"the sidecar did not start:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.1)
    return ready.read_text(encoding="utf-8").strip()


def score(client: Client, items: list[Item], console: Console) -> list[Score | Failure]:
    """In the items' order, with a bar that moves as they finish."""
    with Progress(console=console, transient=True) as progress:
        found = dict(progress.track(client.stream(items), total=len(items), description="scoring"))
    return [found[index] for index in range(len(items))]


def show(results: list[Score | Failure], critique: Score | Failure, console: Console) -> None:
    table = Table(title="ratings of the sample conversations", box=None, padding=(0, 1))
    for name in ("sample", "scenario", "rating", "1 to 5", "on ratings", "tokens", "shared"):
        table.add_column(name, justify="right" if name in ("rating", "on ratings", "tokens", "shared") else "left")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)
    console.print("rating: expected rating; 1 to 5: its distribution; on ratings: probability of all ratings together;")
    console.print("shared: prompt tokens that another item had computed; *: scenario classified by the judge\n")
    if isinstance(critique, Score) and critique.critique is not None:
        console.print(f"critique of {CRITIQUED}, rated {critique.rating}:", highlight=False)
        for title, points in (("+", critique.critique.strengths), ("-", critique.critique.shortcomings)):
            for point in points:
                console.print(Text(f"  {title} {point.text} [{point.rating}]"))
    else:
        console.print(Text(f"no critique of {CRITIQUED}: {critique.error if isinstance(critique, Failure) else ''}"))
    console.print(
        "\n[bold]This shows the machinery, not judging skill[/bold]: the model has 135 million parameters and was "
        "never taught to judge. Its ratings mean nothing."
    )


def _cells(result: Score | Failure) -> tuple[Text, ...]:
    if isinstance(result, Failure):
        return tuple(map(Text, (result.key, result.scenario, "", result.status.name, "", "", "")))
    classified = "" if result.scenario_probability is None else " *"
    mass = "" if result.label_mass is None else f"{result.label_mass:.0%}"
    cells = (
        result.key,
        result.scenario + classified,
        f"{result.expected_rating:.2f}",
        bars(result.probabilities),
        mass,
        str(result.tokens.prompt),
        str(result.tokens.cached),
    )
    return tuple(map(Text, cells))


def write(results: list[Score | Failure], console: Console) -> None:
    """A list of results in the contract's JSON form; the critique is the last one."""
    OUT.mkdir(exist_ok=True)
    path = OUT / "scores.json"
    content = [json.loads(score_json(result)) for result in results]
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"written to {path}: {len(content)} results, the critique last")


if __name__ == "__main__":
    sys.exit(main())
