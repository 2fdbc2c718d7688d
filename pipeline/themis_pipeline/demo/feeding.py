"""The demo's own prompts and reference texts, fed as anybody feeds a pipeline: JSON records without headers."""

from __future__ import annotations

from importlib.resources import files

from themis_pipeline.config import KafkaConfig, TopicsConfig
from themis_pipeline.kafka.seam import Output
from themis_pipeline.kafka.tools import open_producer
from themis_pipeline.topics.table import NEW_PROMPTS, REFERENCE_TEXTS

SEND_S = 30.0
PROMPTS, TEXTS = (topic.placed(TopicsConfig()).name for topic in (NEW_PROMPTS, REFERENCE_TEXTS))
SAMPLES = {PROMPTS: "prompts.jsonl", TEXTS: "texts.jsonl"}
# As somebody might misspell a field: it has to turn up among the dead letters, and nowhere else.
MISSPELT = b'{"id": "p00", "source": "themis-samples", "txet": "Which month has the fewest days?"}'


def samples() -> list[Output]:
    """The misspelt prompt first."""
    found = [Output(PROMPTS, b"p00", MISSPELT)]
    for topic, file in SAMPLES.items():
        text = files("themis_pipeline.demo").joinpath("samples", file).read_text(encoding="utf-8")
        found += [Output(topic, None, line.encode()) for line in text.splitlines()]
    return found


def feed(bootstrap: str) -> int:
    """How many were written, all in one transaction. Raises TransportError."""
    records = samples()
    with open_producer(KafkaConfig(bootstrap_servers=(bootstrap,)), "themis-demo") as producer:
        producer.begin()
        sent = [producer.send(record) for record in records]
        producer.flush(SEND_S)
        for one in sent:
            one.wait(SEND_S)
        producer.commit()
    return len(records)
