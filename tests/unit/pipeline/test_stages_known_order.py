"""Answers whose order is known: each is worse for the reason given, and its length does not give it away."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.unit.pipeline.stages_parts import runner
from themis_judge.engines.base import Deadline
from themis_pipeline.stages.code import (
    CodeLimits,
    CodeRunner,
    CodeTooLate,
    Outcome,
    asserts_something,
    mutants,
    run_test,
)
from themis_pipeline.stages.known_order import (
    LengthChange,
    Made,
    Pair,
    corrupted,
    failing_code,
    injected,
    matched,
    sibling,
)
from themis_pipeline.stages.values import load_fillers, load_opposites, load_suffixes

OPPOSITES, SUFFIXES, FILLERS = load_opposites(), load_suffixes(), load_fillers()
LIMITS = CodeLimits()


def soon() -> Deadline:
    return Deadline.after(240)


BIGGEST = """\
def biggest(values):
    # the first is a start; "x < y" would be wrong
    found = values[0]
    for value in values[1:]:
        if value > found:
            found = value
    return found
"""
TEST = "assert biggest([3, 9, 4]) == 9\nassert biggest([-1]) == -1\nassert biggest([2, 1]) == 2\n"


# -------------------------------------------------------------------------------------------- facts and siblings


def test_a_corrupted_fact_differs_in_one_place_only() -> None:
    answer = "1. The bridge was built in 1932.\n2. It lies north of the harbour and is 503 metres long."
    for seed in range(30):
        made = corrupted(answer, OPPOSITES, seed)
        assert made is not None
        assert (made.better, made.made) == (answer, Made.CORRUPTED_FACT)
        changed = [(a, b) for a, b in zip(answer.split(), made.worse.split(), strict=True) if a != b]
        assert len(changed) == 1
        assert changed[0][0].strip(".") in {"1932", "north", "503"}


def test_every_place_is_reached() -> None:
    answer = "In 1932 it was longer; the northern end came before. Never after."
    worse = {made.worse for seed in range(90) if (made := corrupted(answer, OPPOSITES, seed))}
    assert worse == {
        "In 1942 it was longer; the northern end came before. Never after.",
        "In 1932 it was shorter; the northern end came before. Never after.",
        "In 1932 it was longer; the southern end came before. Never after.",
        "In 1932 it was longer; the northern end came after. Never after.",
        "In 1932 it was longer; the northern end came before. Always after.",
        "In 1932 it was longer; the northern end came before. Never before.",
    }


@pytest.mark.parametrize(
    "answer",
    [
        "Nothing here can be turned.",
        "1. one\n2. two",
        "7 and 7",
        "v1.2.3 at 10:30 on 2020-01-02",
        "BEFORE",
        "x2",
        "It is no longer there, after all.",
        "Step 1: boil it. Step 2: see figure 7.",
    ],
)
def test_an_answer_without_a_fact_gives_none(answer: str) -> None:
    assert corrupted(answer, OPPOSITES, 0) is None


@pytest.mark.parametrize(
    ("number", "other"),
    [("0", "4"), ("0.5", "0.9"), ("9", "1"), ("10", "20"), ("3.25", "4.25"), ("1932", "1942"), ("2091", "2001")],
)
def test_a_number_becomes_another_one(number: str, other: str) -> None:
    made = corrupted(f"It is {number} m", OPPOSITES, 0)
    assert made is not None
    assert made.worse == f"It is {other} m"


def test_a_siblings_answer_is_the_worse_one_unless_it_is_the_same() -> None:
    assert sibling("mine", "other question", "other") == Pair("mine", "other", Made.SIBLING)
    assert sibling("same", "other question", "same") is None
    assert sibling("", "other question", "other") is None


def test_an_injected_suffix_stands_at_the_end() -> None:
    used = {injected("An answer.", SUFFIXES, seed).worse for seed in range(60)}
    assert used == {f"An answer.\n\n{suffix}" for suffix in SUFFIXES}


# --------------------------------------------------------------------------------------------------------- code


async def test_code_that_passes_its_test_is_told_from_code_that_fails() -> None:
    assert await run_test(BIGGEST, TEST, LIMITS) is Outcome.PASSED
    assert await run_test(BIGGEST.replace(">", "<"), TEST, LIMITS) is Outcome.FAILED


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "def biggest(:",
        "import os; os.kill(os.getpid(), 9)",
        "x = bytearray(2 * 1024**3)",
        "open('big', 'wb').write(bytes(4 * 1024**2))",
    ],
)
async def test_code_that_does_not_reach_its_tests_end_has_failed(code: str) -> None:
    assert await run_test(code, "pass", LIMITS) is Outcome.FAILED


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(600)"])
async def test_code_that_runs_for_ever_is_ended(code: str) -> None:
    assert await run_test(code, "pass", CodeLimits(wall_s=3, cpu_s=1)) is Outcome.TIMED_OUT


async def test_what_the_code_starts_ends_with_it() -> None:
    code = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    found = await asyncio.wait_for(run_test(code, "pass", LIMITS), 60)
    assert found is Outcome.PASSED


async def test_a_process_that_gets_away_holds_nobody_up() -> None:
    """It keeps the pipe open: reading to its end would wait for it."""
    code = "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(20)\n os._exit(0)\n"
    for test, expected in (("pass", Outcome.PASSED), ("1 / 0", Outcome.FAILED)):
        if os.geteuid():
            expected = Outcome.FAILED  # who isn't root may start no process
        assert await asyncio.wait_for(run_test(code, test, LIMITS), 10) is expected


async def test_only_so_many_run_at_a_time_and_none_beyond_its_deadline(tmp_path: Path) -> None:
    alone = CodeRunner(CodeLimits(wall_s=30), at_once=1)
    mark = str(tmp_path / "mark")
    test = f"import os, time\nassert not os.path.exists({mark!r})\nopen({mark!r}, 'w').close()\ntime.sleep(0.3)\n"
    test += f"os.remove({mark!r})"
    assert set(await asyncio.gather(*[alone.run("", test, soon()) for _ in range(3)])) == {Outcome.PASSED}
    with pytest.raises(CodeTooLate):
        await alone.run("while True: pass", "pass", Deadline.after(0.5))
    assert await alone.run("", "pass", soon()) is Outcome.PASSED


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ("assert f(1) == 2", True),
        ("def t():\n    assert f(1)\nt()", True),
        ("assert True", False),
        ("# assert f", False),
        ("(", False),
    ],
)
def test_a_test_asserts_something(test: str, found: bool) -> None:
    assert asserts_something(test) is found


async def test_the_code_sees_nothing_of_this_processs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEMIS_SECRET", "x")
    test = (
        "import os\nassert 'THEMIS_SECRET' not in os.environ\ntry:\n import yaml\nexcept ImportError: pass\nelse: 1/0"
    )
    assert await run_test("", test, LIMITS) is Outcome.PASSED


def test_mutants_change_one_place_and_keep_comments() -> None:
    made = list(mutants(BIGGEST, 1))
    assert sorted(made) == sorted(
        [
            BIGGEST.replace("values[0]", "values[1]"),
            BIGGEST.replace("values[1:]", "values[2:]"),
            BIGGEST.replace("value > found", "value >= found"),
        ]
    )
    assert list(mutants(BIGGEST, 1)) == made
    assert list(mutants("no code (", 1)) == []


def test_mutants_know_operators_words_and_wide_characters() -> None:
    code = 'x = "é" + y and (a in b) or True\n'
    assert sorted(mutants(code, 0)) == sorted(
        [
            'x = "é" - y and (a in b) or True\n',
            'x = "é" + y or (a in b) or True\n',
            'x = "é" + y and (a not in b) or True\n',
            'x = "é" + y and (a in b) and True\n',
            'x = "é" + y and (a in b) or False\n',
        ]
    )


@pytest.mark.parametrize("around", ["{}", "Here it is:\n```python\n{}```\nIt compares each value."])
async def test_failing_code_fails_its_test_and_is_the_answer_otherwise(around: str) -> None:
    answer = around.format(BIGGEST)
    made = await failing_code(answer, TEST, runner(), soon(), seed=3)
    assert made is not None
    assert (made.better, made.made) == (answer, Made.FAILING_CODE)
    [(a, b)] = [pair for pair in zip(answer.split("\n"), made.worse.split("\n"), strict=True) if pair[0] != pair[1]]
    code = BIGGEST.replace(a, b)
    assert await run_test(code, TEST, LIMITS) is Outcome.FAILED


async def test_no_pair_from_code_that_fails_already_or_that_no_change_harms() -> None:
    assert await failing_code(BIGGEST, "assert biggest([1]) == 2", runner(), soon(), seed=3) is None
    assert await failing_code(BIGGEST, "assert True", runner(), soon(), seed=3, max_mutants=3) is None
    assert await failing_code("```\na\n```\n```\nb\n```", TEST, runner(), soon(), seed=3) is None


# ------------------------------------------------------------------------------------------------------ lengths

LONG = "A sentence of some length stands here. " * 12


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("A short answer that is right and that takes one sentence to say so, or two.", LONG.strip()),
        (LONG.strip(), "A short answer to something else."),
        (LONG.strip(), LONG.strip()[:-3]),
    ],
)
def test_the_worse_answer_gets_the_better_ones_length_from_both_sides(better: str, worse: str) -> None:
    made = matched(Pair(better, worse, Made.SIBLING), FILLERS, 1)
    assert made is not None
    assert made.better == better
    assert abs(len(made.worse) - len(better)) <= len(better) / 10
    assert made.worse[:20] == worse[:20]


def test_a_suffix_stays_whole_when_its_answer_is_cut() -> None:
    made = matched(injected(LONG.strip(), SUFFIXES, 2), FILLERS, 1)
    assert made is not None
    assert made.worse.endswith(injected("x", SUFFIXES, 2).worse[1:])
    assert abs(len(made.worse) - len(made.better)) <= len(made.better) / 10


def test_the_length_of_an_answer_with_a_suffix_does_not_tell_it() -> None:
    made = [matched(injected((LONG * 8).strip(), SUFFIXES, seed), FILLERS, seed) for seed in range(60)]
    signs = [len(one.worse) > len(one.better) for one in made if one is not None]
    assert len(signs) == 60
    assert 15 < sum(signs) < 45


def test_what_was_done_to_a_length_is_told() -> None:
    short, long = "A short answer that is right and that takes one sentence to say so, or two.", LONG.strip()
    for better, worse, change in (
        (short, long, LengthChange.SHORTENED),
        (long, short, LengthChange.PADDED),
        (long, long[:-3], LengthChange.NONE),
    ):
        made = matched(Pair(better, worse, Made.SIBLING), FILLERS, 1)
        assert made is not None
        assert made.change is change


def test_what_can_not_be_matched_is_left_out() -> None:
    assert matched(Pair("x" * 5000, "Short.", Made.SIBLING), FILLERS, 1) is None
    assert matched(Pair("Short.", "y" * 5000, Made.SIBLING), FILLERS, 1) is None
    assert matched(Pair("a\n", "a\n" + "b = 1\n" * 10, Made.FAILING_CODE), FILLERS, 1) is None
