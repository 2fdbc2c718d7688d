"""What became of one row: its responses' scores, or why there are none. One line of the journal each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from themis_client.failure import RETRYABLE, Failure, Status


@dataclass(frozen=True, slots=True)
class Mark:
    """A response by its position in the row; score in [0, 1]; disagreement of the two orders, where they were
    compared in both."""

    index: int
    score: float
    disagreement: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A row whose distinct responses all have a score."""

    line: int
    marks: tuple[Mark, ...]
    scenario: str

    @property
    def retryable(self) -> bool:
        return False

    def line_json(self) -> str:
        marks = [[mark.index, mark.score, mark.disagreement] for mark in self.marks]
        return _dump({"line": self.line, "marks": marks, "scenario": self.scenario})


@dataclass(frozen=True, slots=True)
class Failed:
    """A row without pairs. responses: (position, status, error) of those that failed; none where the row could not
    be read, so that none was judged, or where its call failed as a whole."""

    line: int
    id: str
    status: Status
    error: str
    responses: tuple[tuple[int, Status, str], ...] = ()

    @classmethod
    def of_row(cls, line: int, failure: Failure) -> Failed:
        return cls(line, failure.key, failure.status, failure.error)

    @classmethod
    def of_responses(cls, line: int, id: str, failures: Mapping[int, Failure]) -> Failed:
        # What a later run can't cure decides, so that no run tries a hopeless row again.
        worst = next((one for one in failures.values() if not one.retryable), next(iter(failures.values())))
        told = tuple((index, one.status, one.error) for index, one in failures.items())
        return cls(line, id, worst.status, worst.error, told)

    @property
    def retryable(self) -> bool:
        """Whether judging it again may help."""
        return self.status in RETRYABLE

    def line_json(self) -> str:
        return _dump(self.columns())

    def columns(self) -> dict[str, Any]:
        return {
            "line": self.line,
            "id": self.id,
            "status": self.status.name,
            "error": self.error,
            "responses": [
                {"index": index, "status": status.name, "error": error} for index, status, error in self.responses
            ],
        }


Record: TypeAlias = "Judged | Failed"


def parse(line: bytes) -> Record:
    """Raises ValueError, KeyError or TypeError for what line_json() doesn't write."""
    value = json.loads(line)
    if "marks" in value:
        return Judged(int(value["line"]), tuple(Mark(*_mark(one)) for one in value["marks"]), value["scenario"])
    responses = tuple((one["index"], Status[one["status"]], one["error"]) for one in value["responses"])
    return Failed(int(value["line"]), value["id"], Status[value["status"]], value["error"], responses)


def _mark(value: Sequence[Any]) -> tuple[int, float, float | None]:
    index, score, disagreement = value
    return int(index), float(score), None if disagreement is None else float(disagreement)


def _dump(value: Mapping[str, Any]) -> str:
    # A failure may quote a key with half a character in it; escaped it stays what it is.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
