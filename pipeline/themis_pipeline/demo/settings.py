"""The settings that the demo runs the pipeline with: a file that a pipeline of one's own can start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from themis_pipeline.topics.table import TABLE

MODEL = "smollm2-135m-instruct"
LINEAGE = ("smollm2",)
BUDGET = 1.0
HEAD = """\
# What `make demo` ran the pipeline with. For one of your own: your brokers, three replicas, your endpoints with their
# prices and a budget, a teacher that is not of the judge's lineage, and allow_judge_lineage gone.
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses of what runs, the judge version that scores, and where files go."""

    broker: str
    sidecar: str
    endpoint: str
    metrics: str
    scorer: str
    out: Path


def write_settings(places: Places, path: Path) -> None:
    path.write_text(HEAD + yaml.safe_dump(settings(places), sort_keys=False, width=120), encoding="utf-8")


def settings(places: Places) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap_servers": [places.broker]},
        # One broker and one partition each: nothing here needs more, and topics are made faster.
        "topics": {"replication": 1, "min_isr": 1, "partitions": {topic.name: 1 for topic in TABLE}},
        "sidecar": {"target": places.sidecar},
        "judge": {"lineage": list(LINEAGE)},
        "llm": {
            "store_url": str(places.out / "llm"),
            # The small model is everybody here: judge, writers and teacher. What it teaches is worth nothing anyway.
            "allow_judge_lineage": True,
            "budget": {"name": "demo", "total": BUDGET, "slice": 0.05},
            "endpoints": [
                _endpoint("writer-a", 2, places),
                _endpoint("writer-b", 1, places),
                _endpoint("teacher", 0, places),
            ],
        },
        "plan": {"shares": {"open_qa": 1, "math": 1}, "instructions_per_call": 1},
        "question": {"writer": "writer-a", "sampling": {"max_tokens": 60}},
        "quiz": {"writer": "writer-a", "sampling": {"max_tokens": 120}},
        "respond": {"responses": 2, "sampling": {"max_tokens": 80, "tries": 1}},
        "label": {"teacher": "teacher", "max_points": 1, "sampling": {"max_tokens": 140, "temperature": 0.8}},
        "difficulty": {"scorer": places.scorer},
        "archive": {"url": str(places.out / "archive"), "age_s": 3.0},
        "runner": {"first_delay_s": 1.0},
        "metrics": {"listen": places.metrics},
    }


def _endpoint(name: str, weight: int, places: Places) -> dict[str, Any]:
    return {
        "name": name,
        "base_url": f"http://{places.endpoint}/v1",
        "model": MODEL,
        "lineage": list(LINEAGE),
        "weight": weight,
        # Made up, so that the budget has something to count.
        "prompt_price": 0.1,
        "completion_price": 0.4,
    }
