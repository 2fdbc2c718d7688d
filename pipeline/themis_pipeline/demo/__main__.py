"""`make demo`, second half: a broker, a sidecar and a model endpoint of its own, samples in, records with IFD out.

It shows the machinery, not what it is worth: the model that plays judge, writers and teacher has 135 million
parameters, and learned none of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from themis_client import Client
from themis_judge.engines.transformers.gguf import dequantised, small_model
from themis_judge.store.files import Files
from themis_pipeline.archive.errors import ArchiveError
from themis_pipeline.demo import results, view
from themis_pipeline.demo.feeding import feed
from themis_pipeline.demo.figures import Figures, read_figures, ready
from themis_pipeline.demo.processes import COLUMNS, Failed, Running, address_in, command, running
from themis_pipeline.demo.settings import MODEL, Places, write_settings
from themis_pipeline.exits import DIFFERENT, OK
from themis_pipeline.kafka.seam import TransportError
from themis_pipeline.local.broker import KafkaMissing, free_port, kafka_broker
from themis_pipeline.topics.table import STAGES

OUT = Path("demo-out")
MADE = ("archive", "llm", "logs", "selection")
LOGS = OUT / "logs"
# All is of one source and one lineage here; half of it, so that some isn't chosen.
SELECTED = ("--source-share", "none", "--keep-judge-lineage", "--share", "0.5")
# The small model puts far less than half of its probability on ratings and kinds.
LABEL_MASS_THRESHOLD = 0.02
WHOLE_S, QUIET_S, LOOK_S = 480.0, 4.0, 1.0
# People's labels are no part of the demo.
STAGES_SHOWN = tuple(stage for stage in STAGES if stage != "annotate")


@dataclass(frozen=True, slots=True)
class World:
    """What the pipeline needs around it, at work."""

    places: Places
    config: Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", type=Path, default=Path(".cache/kafka"), help="a folder that keeps Kafka's jars")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else COLUMNS, highlight=False)
    for name in MADE:
        shutil.rmtree(OUT / name, ignore_errors=True)
    LOGS.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory() as folder, world(Path(folder), args.kafka.absolute(), console) as here:
            last = run(here, console)
            told = command("themis_pipeline", "dead-letters", "list", "--config", here.config, fine=(OK, DIFFERENT))
        return show(last, told, console)
    except (ArchiveError, Failed, KafkaMissing, TransportError) as error:
        console.print(Text(f"the demo failed: {error}"), soft_wrap=True)
        return 1


@contextmanager
def world(folder: Path, jars: Path, console: Console) -> Iterator[World]:
    """Everything that isn't the pipeline: a broker with its topics, a sidecar, the model behind an endpoint."""
    with console.status("preparing the small model (the first time it is unpacked, which takes half a minute)"):
        model = dequantised(small_model())
    (folder / "broker").mkdir()
    with (
        console.status("starting broker, sidecar, model endpoint (the first time Kafka is fetched by Maven)") as status,
        running("the sidecar", LOGS / "sidecar.log", *_judge(model, folder / "sidecar")) as sidecar,
        running("the endpoint", LOGS / "endpoint.log", *_chat(model, folder / "endpoint")) as endpoint,
        kafka_broker(folder / "broker", jars) as broker,
    ):
        judge = address_in(folder / "sidecar", sidecar)
        places = Places(
            broker=broker.address,
            sidecar=judge,
            endpoint=address_in(folder / "endpoint", endpoint),
            metrics=f"127.0.0.1:{free_port()}",
            scorer=_version(judge),
            out=OUT,
        )
        config = OUT / "pipeline.yaml"
        write_settings(places, config)
        status.update("making the topics")
        told = command("themis_pipeline", "topics", "create", "--config", config)
        status.stop()
        console.print(f"broker {places.broker}, sidecar {places.sidecar}, models {places.endpoint}; settings {config}")
        console.print(Text(told.splitlines()[-1]))
        yield World(places, config)


def _judge(model: Path, ready_file: Path) -> tuple[str | Path, ...]:
    told = ("--judge.label_mass_threshold", str(LABEL_MASS_THRESHOLD), "--limits.drain_notice_s", "0")
    return "themis_sidecar", "--engine.model", model, "--listen.port", "0", "--ready-file", ready_file, *told


def _chat(model: Path, ready_file: Path) -> tuple[str | Path, ...]:
    return "themis_pipeline.demo.endpoint", "--model", model, "--name", MODEL, "--ready-file", ready_file


def _version(address: str) -> str:
    with Client(address) as client:
        return client.describe().current


def run(here: World, console: Console) -> Figures:
    """All stages in one process, from the samples' arrival to an archive that holds what they gave."""
    stages = ("themis_pipeline", "run", "all", "--config", here.config)
    with running("the pipeline", LOGS / "pipeline.log", *stages) as pipeline:
        with console.status("starting the pipeline"):
            pipeline.until(lambda: ready(here.places.metrics))
        fed = feed(here.places.broker)
        console.print(f"{fed} prompts and reference texts are on their topics")
        last = watch(pipeline, here.places.metrics, fed, console)
    console.print("the pipeline stopped with exit code 0\n")
    return last


def watch(pipeline: Running, address: str, fed: int, console: Console) -> Figures:
    """Draws the table until nothing moves any more. Raises Failed where that takes too long, or the process ends."""
    begun_s = changed_s = time.monotonic()
    last = _figures(pipeline, address)
    archive = results.open_archive(OUT / "archive")
    with Live(console=console, auto_refresh=False) as live:
        while True:
            time.sleep(LOOK_S)
            now_s, figures = time.monotonic(), _figures(pipeline, address)
            live.update(view.table(figures, STAGES_SHOWN, now_s - begun_s), refresh=True)
            if figures.moved_since(last):
                last, changed_s = figures, now_s
            elif now_s - changed_s > QUIET_S and _all_there(figures, fed, archive):
                return figures
            if now_s - begun_s > WHOLE_S:
                raise pipeline.failed(f"was not done after {WHOLE_S:g} s")


def _figures(pipeline: Running, address: str) -> Figures:
    try:
        return read_figures(address)
    except OSError as error:
        ended = pipeline.process.poll()
        raise pipeline.failed(f"tells nothing of itself any more ({error}; exit code: {ended})") from error


def _all_there(figures: Figures, fed: int, archive: Files) -> bool:
    """Whether all that was fed has been read, nothing waits or is in hand, and the archive holds what was scored."""
    read = sum(figures.of("outcomes_total", stage, end) for stage in ("classify", "plan") for end in ("done", "dead"))
    return (
        read >= fed
        and figures.open == 0
        and len(results.records(archive)) >= figures.of("outcomes_total", "difficulty", "done")
    )


def show(last: Figures, dead_letters: str, console: Console) -> int:
    archive = results.open_archive(OUT / "archive")
    found = results.records(archive)
    archive.close()
    console.print(results.table(found))
    console.print("IFD: log of the ratio of perplexities, critique after its prompt and alone; ratio: of mean losses\n")
    console.print("dead letters, given up with a reason and kept whole (the first prompt fed has a misspelt field):")
    console.print(Text(dead_letters), soft_wrap=True)
    for (stage, code), count in sorted(last.left_out.items()):
        console.print(Text(f"left out by {stage}: {count} ({code})"))
    console.print(f"\n{len(found)} records in {OUT / 'archive'}: {results.kinds(found)}")
    chosen = command("themis_pipeline", "select", OUT / "archive", "--out", OUT / "selection", *SELECTED)
    console.print(Text(chosen), soft_wrap=True)
    console.print(f"what was dropped and why, as a picture: {OUT / 'selection' / 'selection.png'}")
    console.print(
        "\n[bold]This shows the machinery, not what it is worth[/bold]: the model that played judge, writers and "
        "teacher was never taught any of it. docs/pipeline.md says how to take brokers and a teacher of your own."
    )
    return 0 if results.scored(found) and last.of("outcomes_total", "classify", "dead") == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
