"""A call's items: checked one by one, admitted together, judged concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from themis_judge.engines.base import Deadline
from themis_judge.errors import InvalidItem, UnsupportedItem
from themis_judge.items import Status
from themis_sidecar.admission import CallerAdmission

TIMED_OUT = "its time ran out before it was computed"


class Keyed(Protocol):
    """An item on the wire."""

    @property
    def key(self) -> str: ...

    def ByteSize(self) -> int: ...  # noqa: N802 - protobuf's name


Wire = TypeVar("Wire", bound=Keyed)
Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Failed(Protocol[Outcome_co]):
    """Builds the outcome of an item that wasn't judged."""

    def __call__(self, *, status: Status, error: str, error_field: str) -> Outcome_co: ...


@dataclass(frozen=True, slots=True)
class Job(Generic[Outcome]):
    """An item that can be judged: what it takes from the budget, and how."""

    tokens: int
    start: Callable[[], Coroutine[Any, Any, Outcome]]


def invalid(failed: Failed[Outcome], error: InvalidItem) -> Outcome:
    status = Status.UNSUPPORTED if isinstance(error, UnsupportedItem) else Status.INVALID
    return failed(status=status, error=error.problem, error_field=error.field)


def timed_out(failed: Failed[Outcome]) -> Outcome:
    return failed(status=Status.DEADLINE_EXCEEDED, error=TIMED_OUT, error_field="")


def check_size(item: Keyed, max_bytes: int) -> None:
    size = item.ByteSize()
    if size > max_bytes:
        raise InvalidItem("", f"is {size} bytes; this server takes items of up to {max_bytes} bytes")


def prepare(
    items: Iterable[Wire],
    name: str,
    read: Callable[[Wire], Job[Outcome]],
    failed: Failed[Outcome],
    max_item_bytes: int,
) -> list[Job[Outcome] | Outcome]:
    """Each item as a job, or as its failure. `name` is the request's field that holds the items."""
    owners: dict[str, int] = {}

    def one(index: int, item: Wire) -> Job[Outcome] | Outcome:
        try:
            _check_key(item.key, index, owners, name)
            check_size(item, max_item_bytes)
            return read(item)
        except InvalidItem as error:
            return invalid(failed, error)

    return [one(index, item) for index, item in enumerate(items)]


def _check_key(key: str, index: int, owners: dict[str, int], name: str) -> None:
    owner = owners.setdefault(key, index) if key else index
    if owner != index:
        raise InvalidItem("key", f"repeats the key of {name}[{owner}]; keys are unique within a call")


async def run(
    prepared: Iterable[Job[Outcome] | Outcome], deadline: Deadline, admission: CallerAdmission, failed: Failed[Outcome]
) -> list[Outcome]:
    """All outcomes, in order. Raises Overloaded if the jobs don't fit the budget together.

    Jobs that are not done by the deadline are cancelled, and so are all when the caller is.
    """
    entries = list(prepared)
    jobs = [entry for entry in entries if isinstance(entry, Job)]
    admission.admit(sum(job.tokens for job in jobs), len(jobs))
    tasks = {index: launch(entry, admission) for index, entry in enumerate(entries) if isinstance(entry, Job)}
    try:
        if tasks:
            await asyncio.wait(
                tasks.values(), timeout=max(0.0, deadline.remaining_s()), return_when=asyncio.FIRST_EXCEPTION
            )
        return [
            entry if not isinstance(entry, Job) else outcome(tasks[index], failed)
            for index, entry in enumerate(entries)
        ]
    finally:
        for task in tasks.values():
            task.cancel()


def launch(job: Job[Outcome], admission: CallerAdmission) -> asyncio.Task[Outcome]:
    """Starts an admitted job; its tokens go back when it ends, however it does."""
    task = asyncio.create_task(job.start())
    task.add_done_callback(lambda done: admission.release(job.tokens, worked=not done.cancelled()))
    return task


def outcome(task: asyncio.Task[Outcome], failed: Failed[Outcome]) -> Outcome:
    """What became of a job by now."""
    if not task.done():
        return timed_out(failed)
    if task.cancelled():
        # Nobody here cancelled it: passed on as a cancellation it would end the call without a status.
        raise RuntimeError("the judge dropped an item")
    return task.result()
