"""Runs where the wheel and its two dependencies are installed and nothing else: asks the server at argv[1] and
prints as JSON what came back. Not a test module: test_contract_wheel.py starts it."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

from themis_client import Client, Item, Score
from themis_proto.v1 import judge_pb2


def main(target: str) -> None:
    with Client(target, timeout_s=30) as judge:
        described = judge.describe()
        results = judge.score([Item("What is two and two?", answer, key=key) for key, answer in ANSWERS.items()])
    print(
        json.dumps(
            {
                "python": list(sys.version_info[:2]),
                "protobuf": version("protobuf"),
                "current": described.current,
                "contract": judge_pb2.DESCRIPTOR.package,
                "results": [
                    {"key": result.key, "score": result.score, "label_mass": result.label_mass}
                    if isinstance(result, Score)
                    else {"key": result.key, "failed": result.status.name}
                    for result in results
                ],
            }
        )
    )


ANSWERS = {"good": "Four.", "too-long": "Four. " * 500}

if __name__ == "__main__":
    main(sys.argv[1])
