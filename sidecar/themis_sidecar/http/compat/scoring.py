"""A call's samples scored, all or none: these wire formats have no place for a score that is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from themis_judge.engines.base import Deadline
from themis_proto.v1 import judge_pb2 as pb
from themis_sidecar.config import CompatConfig, LimitsConfig
from themis_sidecar.errors import (
    CallError,
    CallTimeout,
    FailedPrecondition,
    InvalidCall,
    Overloaded,
    Unavailable,
)
from themis_sidecar.http.compat.reading import Entry, Reader, Sample

POLICIES: Mapping[str, pb.ReasoningPolicy.ValueType] = {
    "strip": pb.REASONING_POLICY_STRIP,
    "judge": pb.REASONING_POLICY_JUDGE,
    "apart": pb.REASONING_POLICY_APART,
}
_THE_ITEM = (pb.ITEM_STATUS_INVALID, pb.ITEM_STATUS_TOO_LONG, pb.ITEM_STATUS_UNSUPPORTED)


class Service(Protocol):
    """What scores; the gRPC service, of which no context is needed."""

    async def score(self, request: pb.ScoreRequest, remaining_s: float | None) -> pb.ScoreResponse: ...

    def check_open(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Score:
    """score: 0 to 1, by the judge, whose `result` tells more, or by the settings; reward: the same on their scale."""

    score: float
    reward: float
    truncated: bool
    result: pb.Result | None


@dataclass(frozen=True, slots=True)
class Scores:
    """In the order of the samples. version: the judge's; empty where there was nothing to judge."""

    version: str
    scores: tuple[Score, ...]


class Scoring:
    """retry_after_s: when there will be room again. names_scores: whether the settings score some replies unjudged."""

    def __init__(
        self, config: CompatConfig, service: Service, limits: LimitsConfig, retry_after_s: Callable[[], float]
    ) -> None:
        self.reader = Reader(config, limits.max_item_bytes)
        self.scale = config.rewards_scale
        self.names_scores = config.truncated_score is not None or config.empty_score is not None
        self._policy = POLICIES[config.thinking]
        self._service = service
        self._max_items = limits.max_items
        self._retry_after_s = retry_after_s

    def check_count(self, field: str, count: int) -> None:
        """Before anything is read of so many. Raises InvalidCall."""
        if count > self._max_items:
            raise InvalidCall(field, f"holds {count}, and a call takes up to {self._max_items}; split it")

    async def run(self, samples: Iterable[Sample], version: str, deadline: Deadline) -> Scores:
        """version: that must judge; empty: the current one. Raises CallError, for one sample without a score too."""
        entries: list[Entry] = []
        for sample in samples:
            entries.append(self.reader.entry(sample))
            await asyncio.sleep(0)  # others have their turn between the samples of a large call
        asked = [(entry, entry.item) for entry in entries if entry.item is not None]
        if not asked:
            self._service.check_open()
            return Scores("", tuple(self._score(entry, None) for entry in entries))
        options = pb.ScoreOptions(version=version, reasoning_policy=self._policy)
        request = pb.ScoreRequest(items=[item for _, item in asked], options=options)
        results = list((await self._service.score(request, deadline.remaining_s())).results)
        for index, ((entry, _), result) in enumerate(zip(asked, results, strict=True)):
            if result.status != pb.ITEM_STATUS_OK:
                raise self._error(entry, index, result)
        left = iter(results)
        scores = tuple(self._score(entry, None if entry.item is None else next(left)) for entry in entries)
        return Scores(results[0].version, scores)

    def _score(self, entry: Entry, result: pb.Result | None) -> Score:
        score = entry.named_score if result is None else result.verdict.score
        assert score is not None  # an entry has an item or a score
        return Score(score, self.scale.reward(score), entry.truncated, result)

    def _error(self, entry: Entry, index: int, result: pb.Result) -> CallError:
        """What fails the call that holds this sample."""
        status = pb.ItemStatus.Name(result.status).removeprefix("ITEM_STATUS_")
        error = result.error.removeprefix(f"items[{index}]").lstrip(".: ")  # a path of another request
        problem, where = f"{status}: {error}", _place(entry, error)
        if result.status in _THE_ITEM:
            return InvalidCall(where, problem)
        problem = f"{where}: {problem}"
        if result.status == pb.ITEM_STATUS_OVERLOADED:
            return Overloaded(problem, self._retry_after_s())
        if result.status == pb.ITEM_STATUS_DEADLINE_EXCEEDED:
            return CallTimeout(problem)
        return FailedPrecondition(problem) if result.status == pb.ITEM_STATUS_OFF_FORMAT else Unavailable(problem)


def _place(entry: Entry, error: str) -> str:
    """What of the request became the part of the item that the error begins with; the reply where it names none."""
    if error.startswith("messages"):
        return entry.places.prompt
    return entry.places.label if error.startswith("reference") else entry.places.reply
