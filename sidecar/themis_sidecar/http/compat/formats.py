"""The wire formats: how each names its samples, and how its answer is written."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.errors import InvalidCall
from themis_sidecar.http.compat.reading import Sample
from themis_sidecar.http.compat.scoring import Scores, Scoring
from themis_sidecar.http.compat.wire import ClassifyRequest, RemoteRequest, RewardRequest, check_lengths, read_body


class Format(Protocol):
    """One trainer's. path: of its route; method: what its calls are called in logs and metrics."""

    @property
    def path(self) -> str: ...
    @property
    def method(self) -> str: ...

    def read(self, body: bytes, scoring: Scoring) -> Iterator[Sample]:
        """One after another, since each may take milliseconds. Raises InvalidCall."""
        ...

    def write(self, scores: Scores, scoring: Scoring) -> Any:
        """What JSON can hold."""
        ...


class OpenRLHF:
    path, method = "/get_reward", "get_reward"

    def read(self, body: bytes, scoring: Scoring) -> Iterator[Sample]:
        request = read_body(RewardRequest, body)
        count = len(request.query)
        scoring.check_count("query", count)
        if request.prompts is None and count:
            raise InvalidCall("prompts", "are missing; without them nothing says where a response begins")
        check_lengths("query", count, prompts=request.prompts, labels=request.labels)
        labels = request.labels or [None] * count
        for index, row in enumerate(zip(request.query, request.prompts or (), labels, strict=True)):
            yield scoring.reader.query(index, *row)

    def write(self, scores: Scores, scoring: Scoring) -> Any:
        """extra_logs: a number for each sample. OpenRLHF puts answers together by the names of the first one: they
        are the same in all, so that what the judge tells is left out where the settings score some samples without
        it, and an empty shard has every name."""
        rows = scores.scores
        logs: dict[str, list[float]] = {
            "judge_score": [row.score for row in rows],
            "judge_truncated": [float(row.truncated) for row in rows],
            "judge_named_score": [float(row.result is None) for row in rows],
            "judge_reward_low": [scoring.scale.low] * len(rows),
            "judge_reward_high": [scoring.scale.high] * len(rows),
        }
        if not scoring.names_scores:
            logs |= _told([row.result.verdict for row in rows if row.result is not None])
        return {
            "rewards": [row.reward for row in rows],
            "scores": [row.score for row in rows],
            "extra_logs": logs,
        }


def _told(verdicts: Sequence[pb.Verdict]) -> dict[str, list[float]]:
    """What the judge told beside the scores; its engine tells label mass and entropy of all or of none."""
    told = {"judge_expected_rating": [verdict.expected_rating for verdict in verdicts]}
    if all(verdict.HasField("label_mass") for verdict in verdicts):
        told["judge_label_mass"] = [verdict.label_mass for verdict in verdicts]
    if all(verdict.HasField("entropy") for verdict in verdicts):
        told["judge_entropy"] = [verdict.entropy for verdict in verdicts]
    return told


class Slime:
    path, method = "/rm", "rm"

    def read(self, body: bytes, scoring: Scoring) -> Iterator[Sample]:
        request = read_body(RemoteRequest, body)
        yield scoring.reader.reply(request.prompt, request.response, request.label)

    def write(self, scores: Scores, scoring: Scoring) -> Any:
        return scores.scores[0].reward


class Classify:
    """vLLM's, of a model with one class, whose probability is the reward."""

    path, method = "/classify", "classify"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def read(self, body: bytes, scoring: Scoring) -> Iterator[Sample]:
        request = read_body(ClassifyRequest, body)
        if (request.input is None) == (request.messages is None):
            raise InvalidCall("input", "or messages has to be set, and not both")
        if request.messages is not None:
            yield scoring.reader.messages("messages", request.messages)
        elif isinstance(request.input, str):
            yield scoring.reader.chat("input", request.input)
        else:
            texts = request.input or []
            scoring.check_count("input", len(texts))
            for index, text in enumerate(texts):
                yield scoring.reader.chat(f"input[{index}]", text)

    def write(self, scores: Scores, scoring: Scoring) -> Any:
        data = [
            {"index": index, "label": "LABEL_0", "probs": [row.reward], "num_classes": 1}
            for index, row in enumerate(scores.scores)
        ]
        return {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(self._clock()),
            "model": scores.version,
            "data": data,
            "usage": _usage([row.result for row in scores.scores if row.result is not None]),
        }


def _usage(results: Sequence[pb.Result]) -> dict[str, int | None]:
    prompt = sum(result.tokens.prompt for result in results)
    completion = sum(result.tokens.completion for result in results)
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
