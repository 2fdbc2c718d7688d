"""The teacher's answers: read into the judge's own format, or refused with a code."""

from __future__ import annotations

import pytest

from themis_judge import prompts
from themis_judge.items import Message, Response, Rubric
from themis_judge.scenarios import load_scenarios
from themis_judge.verdict import parse_critique
from themis_pipeline.stages import evaluation
from themis_pipeline.stages.errors import Unparsable
from themis_pipeline.stages.evaluation import Form, KeyedPoint

MATH = load_scenarios()["math"]
MESSAGES = (Message.of("user", "What is 2 + 2?"),)
FIRST, SECOND = Response.of("4"), Response.of("5")
ASKED = evaluation.single(MATH, MESSAGES, FIRST, None, Form())
CRITIQUE = """\
Strengths:
- The result is right. {1} [[5]]
- It is short {0} [[4]]
Shortcomings:
- No step is shown. {7}[[2]]
"""
ANSWER = f"Overall rating (1 to 5): [[4]]\n{CRITIQUE}"


def test_points_get_their_criteria_and_the_text_the_judges_format() -> None:
    found = evaluation.read_single(ANSWER, ASKED)
    assert found.rating == 4
    assert found.points == (
        KeyedPoint("The result is right.", 5, MATH.criteria[0].id, True),
        KeyedPoint("It is short", 4, "", True),
        KeyedPoint("No step is shown.", 2, MATH.criteria[6].id, False),
    )
    assert found.text == (
        "Overall rating (1 to 5): [[4]]\nStrengths:\n- The result is right. [[5]]\n- It is short [[4]]\n"
        "Shortcomings:\n- No step is shown. [[2]]\n"
    )


def test_the_judge_reads_what_is_kept() -> None:
    start = prompts.rating_start(Rubric(MATH.criteria))
    kept = evaluation.read_single(ANSWER, ASKED).text
    assert kept.startswith(start)
    critique = parse_critique(kept.removeprefix(start)[1:], range(1, 6))
    assert critique is not None
    assert [point.rating for point in (*critique.strengths, *critique.shortcomings)] == [5, 4, 2]


def test_the_rating_may_come_last() -> None:
    asked = evaluation.single(MATH, MESSAGES, FIRST, None, Form(reason_first=True))
    answer = f"{CRITIQUE}Overall rating (1 to 5): [[3]]"
    found = evaluation.read_single(answer, asked)
    assert found.rating == 3
    assert found.text.endswith("- No step is shown. [[2]]\nOverall rating (1 to 5): [[3]]\n")
    with pytest.raises(Unparsable):
        evaluation.read_single(ANSWER, asked)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", "rating"),
        ("I rate it 4.", "rating"),
        (f"Sure!\n{ANSWER}", "rating"),
        (ANSWER.replace("[[4]]\nS", "[[4.5]]\nS"), "rating"),
        (ANSWER.replace("(1 to 5)", "(1 to 10)"), "rating"),
        (ANSWER.replace("[[4]]\nS", "[[6]]\nS"), "rating_off_scale"),
        (ANSWER.replace("[[4]]\nS", "[[0]]\nS"), "rating_off_scale"),
        (ANSWER.replace(" {1}", ""), "point"),
        (ANSWER.replace("{1} [[5]]", "[[5]] {1}"), "point"),
        (ANSWER.replace("right.", "right [4]."), "point"),
        (ANSWER + "I hope this helps!", "point"),
        (ANSWER.replace("{1}", "{10}"), "criterion"),
        (ANSWER.replace("[[5]]", "[[7]]"), "critique"),
        (ANSWER.replace("Shortcomings:\n", ""), "critique"),
        (ANSWER.replace("- No step is shown. {7}[[2]]\n", ""), "critique"),
        (ANSWER.replace("Strengths", "Shortcomings", 1).replace("Shortcomings:\n- No", "Strengths:\n- No"), "critique"),
        (ANSWER + "Strengths:\n- Again. {1} [[3]]\n", "critique"),
        (ANSWER + "- One. {1} [[3]]\n" * 3, "too_many_points"),
        (ANSWER.replace("right.", "right" * 60), "point_too_long"),
    ],
)
def test_another_form_is_refused_with_a_code(answer: str, code: str) -> None:
    assert answer != ANSWER
    with pytest.raises(Unparsable) as refused:
        evaluation.read_single(answer, ASKED)
    assert refused.value.code == code


@pytest.mark.parametrize(("answer", "choice"), [("A", "A"), ("B", "B"), ("C", "tie")])
def test_a_preference_is_read(answer: str, choice: str) -> None:
    assert evaluation.read_pair(f"Better response: [[{answer}]]\n") == choice


@pytest.mark.parametrize(
    "answer", ["A", "Better response: A", "Better response: [[D]]", "Better response: [[A]]\nYes."]
)
def test_another_preference_is_refused(answer: str) -> None:
    with pytest.raises(Unparsable, match="preference"):
        evaluation.read_pair(answer)


def test_a_choice_turns_with_the_order() -> None:
    assert [evaluation.turned(choice) for choice in ("A", "B", "tie")] == ["B", "A", "tie"]


def test_the_prompts_are_the_judges_own() -> None:
    task = prompts.Task(MATH.name, MATH.definition, Rubric(MATH.criteria), False, False, False, True)
    own = prompts.single(task, MESSAGES, FIRST, "4").text()
    assert evaluation.single(MATH, MESSAGES, FIRST, "4", Form()).prompt.startswith(own)
    swapped = evaluation.pair(MATH, MESSAGES, SECOND, FIRST, None, Form()).prompt
    assert swapped.index("[BEGIN response A 1]\n5") < swapped.index("[BEGIN response B 1]\n4")
