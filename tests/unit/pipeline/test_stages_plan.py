"""Plans: exact ratios, and the same records however often and in whatever order texts come."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.pipeline.stages_parts import WRITER, Drops, ToldLLM, asker, english_gates
from themis_judge.scenarios import load_scenarios
from themis_pipeline.stages import chance
from themis_pipeline.stages.errors import BadData, BadSetting
from themis_pipeline.stages.plan import QUESTIONING, QUIZZING, Planner, PlanSettings
from themis_pipeline.stages.question import Question
from themis_pipeline.stages.quiz import SECTIONS
from themis_pipeline.stages.values import QUIZZED, load_opposites, load_questioning, load_quizzing, load_suffixes

SHARES = {"math": 10, "open_qa": 13, "translation": 1, "rewriting": 0}


def planner(seed: int = 7, at_once: int = 5, **shares: int) -> Planner:
    return Planner(PlanSettings(seed, shares or SHARES, at_once), load_questioning(), load_quizzing())


@pytest.mark.parametrize("text", ["a", "b", "a text of which nothing is known"])
def test_each_text_gives_the_scenarios_in_exactly_their_shares(text: str) -> None:
    for at_once in (1, 5):
        counts: Counter[str] = Counter()
        for record in planner(at_once=at_once).block(text):
            counts[record.scenario] += record.instructions
        assert counts == {"math": 10, "open_qa": 13, "translation": 1}


def test_what_a_share_leaves_over_beside_fives_is_asked_for_singly() -> None:
    calls = Counter((record.scenario, record.instructions) for record in planner().block("a"))
    assert calls == {("math", 1): 10, ("open_qa", 5): 2, ("open_qa", 1): 3, ("translation", 1): 1}


def test_the_same_id_asks_for_the_same_under_other_shares() -> None:
    told = [
        {record.id: replace(record, index=0) for record in planner(seed, **shares).block("a")}
        for seed, shares in ((7, SHARES), (7, {"math": 4, "open_qa": 8, "close_qa": 1}), (8, SHARES))
    ]
    shared = told[0].keys() & told[1].keys()
    assert len(shared) == 4 + 3
    assert all(told[0][id] == told[1][id] for id in shared)
    assert not told[0].keys() & told[2].keys()


def test_a_repeat_gives_the_same_records() -> None:
    first = planner().block("a")
    planner().block("b")
    assert planner().block("a") == first
    assert [record.index for record in first] == list(range(10 + 5 + 1))


def test_records_are_the_same_on_every_machine() -> None:
    [first, *_] = planner().block("a")
    assert (first.scenario, first.seed) == ("math", 3785056438)


def test_another_seed_gives_other_records() -> None:
    seeds = {record.seed for record in planner().block("a")}
    assert not seeds & {record.seed for record in planner(seed=8).block("a")}


def test_questioning_starts_from_the_text_and_quizzing_from_values() -> None:
    for record in planner().block("a"):
        if record.scenario == "math":
            assert record.template == QUIZZING
            assert record.controls is not None
            topics = load_quizzing()["math"].subjects[record.controls.subject]
            assert record.controls.topic in topics
        else:
            assert (record.template, record.controls) == (QUESTIONING, None)


def test_values_are_dealt_evenly() -> None:
    records = planner(math=30).block("a")
    told = [record.controls for record in records if record.controls]
    assert set(Counter(controls.difficulty for controls in told).values()) == {6}
    assert set(Counter(controls.task for controls in told).values()) == {5}


def test_orders_differ_between_texts() -> None:
    orders = {tuple(record.scenario for record in planner().block(str(text))) for text in range(20)}
    assert len(orders) > 15


@pytest.mark.parametrize("shares", [{"poetry": 1}, {"math": -1, "open_qa": 2}, {"math": 0}, {"math": 1001}])
def test_wrong_shares_are_refused(shares: dict[str, int]) -> None:
    with pytest.raises(BadSetting):
        planner(**shares)


def test_only_one_or_five_instructions_a_call() -> None:
    with pytest.raises(BadSetting, match="1 or 5"):
        Planner(PlanSettings(1, SHARES, instructions_per_call=3), load_questioning(), load_quizzing())


# ------------------------------------------------------------------------------------------------------ the data


def test_every_scenario_is_made_in_exactly_one_way() -> None:
    questioning, quizzing = set(load_questioning()), set(load_quizzing())
    assert questioning | quizzing == set(load_scenarios())
    assert not questioning & quizzing
    assert (len(questioning), len(quizzing)) == (7, 3)


def test_there_is_enough_to_choose_from() -> None:
    for values in load_quizzing().values():
        assert len(values.difficulties) >= 5
        assert len(values.audiences) >= 5
        assert len(values.tasks) >= 5
        assert all(len(topics) >= 4 for topics in values.subjects.values())
    assert all(len(values.seeds) >= 3 for values in load_questioning().values())
    assert len(load_suffixes()) >= 5
    assert load_opposites().words["before"] == "after"
    assert load_opposites().words["after"] == "before"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("scenario: x\nrequirements: [a]\n", "seeds"),
        ("scenario: x\nrequirements: [a]\nseeds: []\n", "seeds"),
        ("scenario: x\nrequirements: [a, a]\nseeds: [b]\n", "twice"),
        ("scenario: x\nrequirements: [a, 3]\nseeds: [b]\n", r"requirements\[1\]"),
        ("scenario: x\nrequirements: [a]\nseeds: [b]\nsedes: [c]\n", "sedes"),
        ("scenario: 5\nrequirements: [a]\nseeds: [b]\n", "scenario"),
        ("- a", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_a_data_file_that_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BadData, match=named):
        load_questioning(tmp_path)


def test_quizzes_have_a_form_for_three_scenarios(tmp_path: Path) -> None:
    assert set(SECTIONS) == QUIZZED == set(load_quizzing())
    text = "scenario: {}\ndifficulties: [a]\naudiences: [a]\ntasks: [a]\nsubjects: {{a: [b]}}\n"
    (tmp_path / "x.yaml").write_text(text.format("legal"))
    with pytest.raises(BadData, match="scenario: quizzes are written for math"):
        load_quizzing(tmp_path)
    (tmp_path / "x.yaml").write_text(text.format("math"))
    assert load_quizzing(tmp_path)["math"].subjects == {"a": ("b",)}
    (tmp_path / "x.yaml").write_text(text.format("math").replace("{a:", "{2:"))
    with pytest.raises(BadData, match="subjects: a subject's name"):
        load_quizzing(tmp_path)


def test_data_that_do_not_fit_each_other_are_refused() -> None:
    math = {"math": replace(load_questioning()["close_qa"], scenario="math")}
    with pytest.raises(BadSetting, match="math; one of both"):
        Planner(PlanSettings(1, {"math": 1}), math, load_quizzing())
    asked = {"poetry": replace(load_questioning()["close_qa"], scenario="poetry")}
    with pytest.raises(BadSetting, match="poetry"):
        Question(load_scenarios(), asked, asker(ToldLLM(lambda *_: ""), "q"), WRITER, english_gates(), Drops())


def test_two_files_for_one_scenario_are_refused(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.yaml").write_text("scenario: x\nrequirements: [a]\nseeds: [b]\n")
    with pytest.raises(BadData, match="two files"):
        load_questioning(tmp_path)


# -------------------------------------------------------------------------------------------------------- chance


def test_draws_are_even_and_names_are_kept_apart() -> None:
    assert chance.number("a", "bc") != chance.number("ab", "c")
    counts = Counter(chance.below(4, "draw", i) for i in range(4000))
    assert all(880 < counts[value] < 1120 for value in range(4))


def test_weights_say_how_often_something_is_chosen_first() -> None:
    firsts = Counter(chance.weighted((1, 3), 2, "first", i)[0] for i in range(4000))
    assert 2850 < firsts[1] < 3150
    assert all(len(set(chance.weighted((1, 2, 3), 2, "two", i))) == 2 for i in range(50))
    assert all(0 not in chance.weighted((0, 2, 3), 2, "none", i) for i in range(50))
    with pytest.raises(ValueError, match="weight"):
        chance.weighted((0, 2, 3), 3, "none")


def test_a_share_keeps_about_as_much_and_a_larger_one_keeps_that_too() -> None:
    some = {i for i in range(4000) if chance.kept(0.25, "kept", i)}
    assert 880 < len(some) < 1120
    assert some < {i for i in range(4000) if chance.kept(0.5, "kept", i)}
    assert all(chance.kept(1.0, i) and not chance.kept(0.0, i) for i in range(100))
