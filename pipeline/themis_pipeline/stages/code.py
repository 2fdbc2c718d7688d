"""Runs a model's code against a test in a process of its own.

What holds it: limits on computing, wall time, memory, open files, a file's size, core dumps (and, unless we are root,
on further processes and threads); an empty environment; a temporary folder as its place; no packages but Python's own;
the end of its process group, whatever it started in there.

What does not: it runs as our user, so that it can read and write what we can (settings, keys, /proc of our processes),
speak to the network, fill the disk with many files, and leave its process group to go on after its end. That is enough
against mistakes, and nothing against malice. So only code that a model wrote by a template of ours is run, never code
or tests of people's; a model can be talked into malice all the same, or be malicious, so a stage that runs code belongs
into a container of its own: without a network but for its endpoints and brokers, without secrets in files, read-only
but for its temporary folder, and not as root. Give no runner to the stages where that can't be had: they go without
tests then.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from themis_judge.engines.base import Deadline
from themis_pipeline.runner.stage import Retry
from themis_pipeline.stages import chance


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


RETRY_AFTER_S = 15.0


class CodeTooLate(Retry):
    """A run's turn, or its end, did not come within the record's deadline: too many others were before it, which is
    no failure of the record's."""

    def __init__(self) -> None:
        super().__init__(RETRY_AFTER_S, "CodeTooLate")


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """wall_s bounds the whole run, cpu_s the computing in it."""

    wall_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 1024 * 1024
    open_files: int = 32


# Written last, by this file alone: code that ends the process early, with status 0 or not, has not passed.
_FINISH = "\n\nimport os as _os, sys as _sys\n_os.write({descriptor}, {token!r}.encode())\n"

# The limits are set by the new process: a hook between fork and exec can hang where the parent has threads.
_START = """
import os, resource, sys
def limit(kind, soft, hard):
    resource.setrlimit(kind, (soft, hard))
limit(resource.RLIMIT_CPU, {limits.cpu_s}, {limits.cpu_s} + 1)
limit(resource.RLIMIT_AS, {limits.memory_bytes}, {limits.memory_bytes})
limit(resource.RLIMIT_FSIZE, {limits.file_bytes}, {limits.file_bytes})
limit(resource.RLIMIT_NOFILE, {limits.open_files}, {limits.open_files})
limit(resource.RLIMIT_CORE, 0, 0)
limit(resource.RLIMIT_NPROC, 0, 0)
os.execv(sys.executable, [sys.executable, "-I", "-S", "-B", {file!r}])
"""


class CodeRunner:
    """Runs code for all stages of a process, `at_once` at a time."""

    def __init__(self, limits: CodeLimits, at_once: int = 2) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(at_once)

    async def run(self, code: str, test: str, deadline: Deadline) -> Outcome:
        """Raises CodeTooLate, and OSError if no process starts."""
        try:
            return await asyncio.wait_for(self._in_turn(code, test), max(0.0, deadline.remaining_s()))
        except asyncio.TimeoutError as error:
            raise CodeTooLate from error

    async def _in_turn(self, code: str, test: str) -> Outcome:
        async with self._turns:
            return await run_test(code, test, self._limits)


def asserts_something(test: str) -> bool:
    """Whether there is an assertion in it, beyond one of a constant."""
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant) for node in ast.walk(tree))


async def run_test(code: str, test: str, limits: CodeLimits) -> Outcome:
    """Whether the test, run after the code in one module, reaches its end. Raises OSError if no process starts."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)  # a process that got away may hold the other end for ever
    token = os.urandom(16).hex()
    try:
        with tempfile.TemporaryDirectory(prefix="themis-code-") as folder:
            file = Path(folder) / "answer.py"
            file.write_text(f"{code}\n\n{test}{_FINISH.format(descriptor=writing, token=token)}", encoding="utf-8")
            finished = await _run(file, writing, limits)
        try:
            passed = os.read(reading, len(token) + 1) == token.encode()
        except BlockingIOError:
            passed = False
    finally:
        os.close(reading)
        os.close(writing)
    if not finished:
        return Outcome.TIMED_OUT
    return Outcome.PASSED if passed else Outcome.FAILED


async def _run(file: Path, descriptor: int, limits: CodeLimits) -> bool:
    """Whether the process ended by itself; its process group is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _START.format(limits=limits, file=str(file)),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        cwd=file.parent, env={"PYTHONHASHSEED": "0"}, pass_fds=(descriptor,), start_new_session=True,
    )  # fmt: skip
    try:
        await asyncio.wait_for(process.wait(), limits.wall_s)
    except asyncio.TimeoutError:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return process.returncode != -signal.SIGXCPU


# ----------------------------------------------------------------------------------------------------- mutations

_SWAPS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "+"), ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//"),
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.And: ("and", "or"), ast.Or: ("or", "and"), ast.In: ("in", "not in"),
}  # fmt: skip


def mutants(code: str, seed: int) -> Iterator[str]:
    """The code with one operator, number or truth value changed where it stands, in a seeded order; the rest is
    as it was, comments and spaces too. Nothing for code that is none."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    source = _Source(code)
    changes = [change for node in ast.walk(tree) for change in _changes(node, source)]
    for start, end, text in chance.shuffled(changes, "mutants", seed):
        yield (source.data[:start] + text.encode() + source.data[end:]).decode()


class _Source:
    """Text by the places that ast tells: lines from 1, and bytes within them."""

    def __init__(self, code: str) -> None:
        self.data = code.encode()
        self._lines = [0]
        for line in self.data.split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def start(self, node: ast.expr) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset


def _changes(node: ast.AST, source: _Source) -> Iterator[tuple[int, int, str]]:
    match node:
        case ast.BinOp(left, operator, right) | ast.Compare(left, [operator, *_], [right, *_]):
            yield from _operator(source, source.end(left), source.start(right), operator)
        case ast.BoolOp(operator, [left, right, *_]):
            yield from _operator(source, source.end(left), source.start(right), operator)
        case ast.Constant(bool(value)):
            yield source.start(node), source.end(node), str(not value)
        case ast.Constant(int(value)):
            yield source.start(node), source.end(node), str(value + 1)


def _operator(source: _Source, start: int, end: int, operator: ast.AST) -> Iterator[tuple[int, int, str]]:
    if type(operator) not in _SWAPS:
        return
    sign, other = _SWAPS[type(operator)]
    between = source.data[start:end]
    # More than one: a comment between both sides that holds the sign.
    if between.count(sign.encode()) == 1:
        place = start + between.index(sign.encode())
        yield place, place + len(sign), other
