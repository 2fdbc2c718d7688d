"""A version's id and digest change with everything that could change a score, and with nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.judge.fakes import FakeEngine, loaded
from themis_judge import prompts
from themis_judge.engines.base import EngineInfo
from themis_judge.scenarios import Scenario, load_scenarios
from themis_judge.version import JudgeSettings, JudgeVersion, describe_version, template_digest

SCENARIOS = load_scenarios()
SETTINGS = JudgeSettings()
REFERENCES = frozenset({"math"})
INFO = EngineInfo("fake", "judge-14b", 8192, "ab" * 32, "bfloat16")


def digest(
    settings: JudgeSettings = SETTINGS,
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    references: frozenset[str] = REFERENCES,
) -> str:
    return template_digest(settings, scenarios, references)


def version(info: EngineInfo = INFO, settings: JudgeSettings = SETTINGS) -> JudgeVersion:
    return describe_version(info, settings, SCENARIOS, REFERENCES)


def with_criterion(scenario: Scenario, index: int, **fields: Any) -> dict[str, Scenario]:
    criteria = list(scenario.criteria)
    criteria[index] = replace(criteria[index], **fields)
    return {**SCENARIOS, scenario.id: replace(scenario, criteria=tuple(criteria))}


def test_the_digest_is_stable() -> None:
    assert digest() == digest(JudgeSettings(), load_scenarios(), frozenset(["math"]))
    assert len(digest()) == 64
    assert int(digest(), 16) > 0


def test_every_criterion_counts() -> None:
    digests = {digest()}
    count = 0
    for scenario in SCENARIOS.values():
        for index, criterion in enumerate(scenario.criteria):
            for field in ("id", "name", "text"):
                changed = with_criterion(scenario, index, **{field: getattr(criterion, field) + "!"})
                digests.add(digest(scenarios=changed))
                count += 1
            digests.add(digest(scenarios=with_criterion(scenario, index, weight=2.0)))
            count += 1
    assert len(digests) == count + 1


def test_the_order_of_criteria_and_of_scenarios_counts() -> None:
    math = SCENARIOS["math"]
    turned = {**SCENARIOS, "math": replace(math, criteria=math.criteria[::-1])}
    reversed_ = dict(reversed(list(SCENARIOS.items())))
    assert len({digest(), digest(scenarios=turned), digest(scenarios=reversed_)}) == 3


def test_names_definitions_and_the_set_of_scenarios_count() -> None:
    math = SCENARIOS["math"]
    fewer = {id: scenario for id, scenario in SCENARIOS.items() if id != "math"}
    digests = {
        digest(),
        digest(scenarios=fewer),
        digest(scenarios={**SCENARIOS, "math": replace(math, name="Maths")}),
        digest(scenarios={**SCENARIOS, "math": replace(math, definition="Sums.")}),
    }
    assert len(digests) == 4


def test_contrasts_do_not_count() -> None:
    math = SCENARIOS["math"]
    assert digest(scenarios={**SCENARIOS, "math": replace(math, contrasts={})}) == digest()


def test_every_setting_counts() -> None:
    digests = {
        digest(),
        digest(JudgeSettings(data_order="paper")),
        digest(JudgeSettings(verdict_order="reason_first")),
        digest(JudgeSettings(data_order="paper", verdict_order="reason_first")),
        digest(JudgeSettings(label_mass_threshold=0.51)),
        digest(references=frozenset()),
        digest(references=frozenset({"math", "open_qa"})),
    }
    assert len(digests) == 7


def test_every_constant_of_the_prompts_counts() -> None:
    """A new text of the templates must not be forgotten."""
    listed = repr(prompts.TEMPLATE_TEXTS)
    texts = {
        name: value
        for name, value in vars(prompts).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str | tuple)
    }
    assert len(texts) >= 20
    assert [name for name, value in texts.items() if repr(value) not in listed] == []
    assert all(repr(note) in listed for note in prompts.FINISH_NOTES.values())


def test_a_changed_template_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(prompts, "TEMPLATE_TEXTS", [*prompts.TEMPLATE_TEXTS[:-1], "[cut]"])
    assert digest() != before


def test_the_id_follows_from_everything_else() -> None:
    versions = [
        version(),
        version(replace(INFO, model="judge-32b")),
        version(replace(INFO, name="other")),
        version(replace(INFO, weights_digest="cd" * 32)),
        version(replace(INFO, dtype="float16")),
        version(replace(INFO, context_tokens=4096)),
        version(settings=JudgeSettings(data_order="paper")),
        version(settings=JudgeSettings(label_mass_threshold=0.9)),
    ]
    assert len({each.id for each in versions}) == len(versions)
    assert version() == version()
    assert version().id.startswith("judge-14b-")
    assert len(version().id) == len("judge-14b-") + 12


def test_a_version_tells_what_it_is_made_of() -> None:
    settings = JudgeSettings("paper", "reason_first", 0.75)
    found = dataclasses.asdict(version(settings=settings))
    del found["id"]
    assert found == {
        "base_model": "judge-14b",
        "engine": "fake",
        "weights_digest": "ab" * 32,
        "template_digest": digest(settings),
        "data_order": "paper",
        "verdict_order": "reason_first",
        "label_mass_threshold": 0.75,
        "context_tokens": 8192,
        "dtype": "bfloat16",
        "reference_scenarios": ("math",),
    }


async def test_the_judges_version_has_its_settings_and_the_scenarios_policy() -> None:
    judge = await loaded(FakeEngine())
    own = tuple(sorted(id for id, scenario in SCENARIOS.items() if scenario.reference))
    assert judge.version.reference_scenarios == own
    assert judge.version.template_digest == digest(references=frozenset(own))
    again = await loaded(FakeEngine())
    assert again.version == judge.version
