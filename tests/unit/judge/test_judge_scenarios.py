"""Scenarios are data: the ten that come along, and what a user's folder may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from themis_judge.errors import BadScenario
from themis_judge.scenarios import BUILT_IN, load_scenarios, read_scenario

WITH_STANDARD_ANSWER = {"close_qa", "math", "programming", "reading_comprehension", "translation"}
WITHOUT = {"creative_writing", "open_qa", "professional_writing", "rewriting", "role_play"}
LEGAL = """\
id: legal
name: Legal Questions
definition: Questions about the law.
reference: used
criteria:
  - id: legal.right
    name: Right
    text: The law is stated as it is.
  - id: legal.careful
    name: Careful
    text: It says where a lawyer is needed.
    contrast:
      instruction: May I record a call?
      meets: That depends on the country; ask a lawyer before you do.
      misses: Yes.
"""


def test_there_are_ten_and_references_go_to_those_with_a_standard_answer() -> None:
    scenarios = load_scenarios()
    assert list(scenarios) == sorted(WITH_STANDARD_ANSWER | WITHOUT)
    assert {id for id, scenario in scenarios.items() if scenario.reference} == WITH_STANDARD_ANSWER
    assert all(id == scenario.id and scenario.name and scenario.definition for id, scenario in scenarios.items())


def test_each_file_is_named_after_its_scenario() -> None:
    assert {read_scenario(file).id: file.stem for file in BUILT_IN.glob("*.yaml")} == {
        id: id for id in load_scenarios()
    }


def test_there_are_at_least_81_criteria_each_with_a_name_and_one_sentence() -> None:
    criteria = [criterion for scenario in load_scenarios().values() for criterion in scenario.criteria]
    assert len(criteria) >= 81
    for criterion in criteria:
        assert criterion.name
        assert criterion.text.endswith(".")
        assert "\n" not in criterion.name + criterion.text
        assert criterion.weight == 1.0


def test_criteria_have_ids_of_their_own_that_begin_with_their_scenario() -> None:
    scenarios = load_scenarios().values()
    ids = [criterion.id for scenario in scenarios for criterion in scenario.criteria]
    texts = [criterion.text for scenario in scenarios for criterion in scenario.criteria]
    assert len(set(ids)) == len(ids)
    assert len(set(texts)) == len(texts)
    assert all(c.id.startswith(f"{scenario.id}.") for scenario in scenarios for c in scenario.criteria)


def test_each_criterion_has_a_contrast_of_two_different_answers() -> None:
    for scenario in load_scenarios().values():
        assert set(scenario.contrasts) == {criterion.id for criterion in scenario.criteria}
        for contrast in scenario.contrasts.values():
            assert contrast.meets != contrast.misses
            assert contrast.instruction


def test_built_in_texts_hold_no_block_marks_or_ratings() -> None:
    for scenario in load_scenarios().values():
        static = [scenario.name, scenario.definition, *(c.name + c.text for c in scenario.criteria)]
        assert not [text for text in static if "[" in text or "]" in text]


def test_a_folder_adds_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "legal.yaml").write_text(LEGAL, encoding="utf-8")
    scenarios = load_scenarios([tmp_path])
    assert len(scenarios) == 11
    assert list(scenarios) == sorted(scenarios)
    legal = scenarios["legal"]
    assert legal.reference
    assert [criterion.id for criterion in legal.criteria] == ["legal.right", "legal.careful"]
    assert list(legal.contrasts) == ["legal.careful"]
    assert legal.contrasts["legal.careful"].reference is None


def test_a_folder_replaces_a_scenario_and_later_folders_come_first(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        text = LEGAL.replace("id: legal\n", "id: math\n").replace("Legal Questions", name)
        (tmp_path / name / "any.yaml").write_text(text, encoding="utf-8")
    scenarios = load_scenarios([tmp_path / "first", str(tmp_path / "second")])
    assert len(scenarios) == 10
    assert scenarios["math"].name == "second"
    assert len(scenarios["math"].criteria) == 2


def test_what_is_loaded_can_not_be_changed() -> None:
    scenarios = load_scenarios()
    with pytest.raises(TypeError):
        scenarios["math"] = scenarios["open_qa"]  # type: ignore[index]
    with pytest.raises(TypeError):
        scenarios["math"].contrasts["x"] = None  # type: ignore[index]


def _one_line_less(start: str) -> str:
    return "".join(line for line in LEGAL.splitlines(keepends=True) if not line.startswith(start))


MALFORMED = {
    "no id": (_one_line_less("id:"), "id: a text is expected"),
    "no name": (_one_line_less("name:"), "name: a text is expected"),
    "no definition": (_one_line_less("definition:"), "definition: a text is expected"),
    "no reference": (_one_line_less("reference:"), "reference: a text is expected"),
    "a blank name": (LEGAL.replace("Legal Questions", '"  "'), "name: a text is expected"),
    "a number as id": (LEGAL.replace("id: legal\n", "id: 7\n"), "id: a text is expected"),
    "another reference policy": (
        LEGAL.replace("reference: used", "reference: maybe"),
        "reference: say 'used' or 'dropped'",
    ),
    "no criteria": (LEGAL[: LEGAL.index("criteria")], "criteria: a list of at least one entry is expected"),
    "empty criteria": (LEGAL[: LEGAL.index("criteria")] + "criteria: []\n", "criteria: a list of at least one entry"),
    "criteria as text": (LEGAL[: LEGAL.index("criteria")] + "criteria: good\n", "criteria: a list of at least one"),
    "a criterion that is a text": (
        LEGAL[: LEGAL.index("criteria")] + "criteria: [good]\n",
        "criteria[0]: a mapping is expected",
    ),
    "a criterion without text": (
        LEGAL.replace("    text: It says where a lawyer is needed.\n", ""),
        "criteria[1]: text: a text",
    ),
    "a criterion without id": (
        LEGAL.replace("  - id: legal.right\n    name", "  - name"),
        "criteria[0]: id: a text is expected",
    ),
    "a contrast of one answer": (
        LEGAL.replace("      misses: Yes.\n", ""),
        "criteria[1].contrast: misses: a text is expected",
    ),
    "a contrast with a blank reference": (
        LEGAL + '      reference: ""\n',
        "criteria[1].contrast: reference: a text is expected",
    ),
    "a list": ("- id: legal\n", "a mapping is expected"),
    "nothing": ("", "a mapping is expected"),
    "broken YAML": ("id: [", "not readable as YAML"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_named_with_its_field(case: str, tmp_path: Path) -> None:
    text, problem = MALFORMED[case]
    file = tmp_path / "legal.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadScenario) as raised:
        load_scenarios([tmp_path])
    assert str(raised.value).startswith(f"{file}: ")
    assert problem in str(raised.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "legal.yaml"
    file.write_bytes(LEGAL.replace("law", "loi française").encode("latin-1"))
    with pytest.raises(BadScenario, match="not readable as YAML") as raised:
        load_scenarios([tmp_path])
    assert str(file) in str(raised.value)


def test_a_folder_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadScenario) as raised:
        load_scenarios([tmp_path])
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("owner", ["math.correct_result", "legal.right"])
def test_a_criterion_id_that_is_taken_is_named_with_its_file(owner: str, tmp_path: Path) -> None:
    taken = next(iter(load_scenarios()["math"].criteria)).id if owner.startswith("math") else owner
    file = tmp_path / "legal.yaml"
    file.write_text(LEGAL.replace("id: legal.careful", f"id: {taken}"), encoding="utf-8")
    with pytest.raises(BadScenario) as raised:
        load_scenarios([tmp_path])
    assert taken in str(raised.value)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("line", "replacement"), [("name: L", "name: L\nnmae: M"), ("    text: T", "    text: T\n    weight: 2")]
)
def test_a_field_that_is_not_known_is_refused_by_name(tmp_path: Path, line: str, replacement: str) -> None:
    whole = "id: law\nname: L\ndefinition: D\nreference: used\ncriteria:\n  - id: law.one\n    name: N\n    text: T\n"
    (tmp_path / "law.yaml").write_text(whole)
    assert "law" in load_scenarios([tmp_path])
    (tmp_path / "law.yaml").write_text(whole.replace(line, replacement))
    with pytest.raises(BadScenario, match=r"law\.yaml.*(nmae|weight): not known here"):
        load_scenarios([tmp_path])
