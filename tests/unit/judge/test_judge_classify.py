"""Which scenario a conversation belongs to; what judging it is thought to cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.judge.fakes import FIVE, QUESTION, FakeEngine, assert_failed, item, loaded, logs
from themis_judge.engines.base import (
    EngineUnavailable,
    Labels,
    LabelScores,
    Usage,
)
from themis_judge.items import (
    CriteriaMode,
    CritiqueMode,
    Options,
    ReasoningMode,
    Status,
)

# --------------------------------------------------------------------------------------------------- classifying


async def test_the_scenario_is_asked_once_for_a_conversation() -> None:
    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if labels.texts == FIVE:
            return logs(0.2, 0.2, 0.2, 0.2, 0.2)
        return logs(*(0.55 if label == "C" else 0.05 for label in labels.texts))

    engine = FakeEngine(answer)
    judge = await loaded(engine)
    group = [item(f"Answer {n}.", scenario="") for n in range(8)]
    results = await judge.score_all(group)
    asked = [call for call in engine.label_calls if call.labels.texts != FIVE]
    assert len(asked) == 1
    assert asked[0].labels.texts == tuple("ABCDEFGHIJ")
    assert asked[0].text.endswith("Kind: [[")
    assert not [n for n in range(8) if f"Answer {n}." in asked[0].text]
    third = list(judge.scenarios)[2]
    assert {result.scenario for result in results} == {third}
    assert [result.scenario_probability for result in results] == pytest.approx([0.55] * 8)
    assert all(f"Task: {judge.scenarios[third].name}." in c.text for c in engine.label_calls if c not in asked)
    await judge.score_one(item("Another.", scenario=""))
    assert len([call for call in engine.label_calls if call.labels.texts != FIVE]) == 1


async def test_a_classification_tells_all_probabilities() -> None:
    judge = await loaded(FakeEngine(lambda text, labels: logs(*([0.08] * 9 + [0.18]))))
    found = await judge.classify_one(QUESTION)
    assert found.status is Status.OK
    assert found.scenario == list(judge.scenarios)[9]
    assert found.probabilities == pytest.approx((0.08 / 0.9,) * 9 + (0.2,), abs=1e-12)
    assert found.label_mass == pytest.approx(0.9, abs=1e-12)
    again = await judge.classify_one(QUESTION)
    assert (again.scenario, again.probabilities) == (found.scenario, found.probabilities)
    assert again.usage == Usage()


async def test_what_can_not_be_classified_is_not_rated() -> None:
    engine = FakeEngine(lambda text, labels: logs(*([0.01] * 10)))
    judge = await loaded(engine)
    assert_failed(await judge.score_one(item(scenario="")), Status.OFF_FORMAT)
    found = await judge.classify_one(QUESTION)
    assert (found.status, found.scenario, found.probabilities) == (Status.OFF_FORMAT, "", ())
    assert found.off_format == "label_mass"
    invalid = await judge.classify_one(())
    assert (invalid.status, invalid.error_field) == (Status.INVALID, "messages")


async def test_an_engine_without_probabilities_classifies_too() -> None:
    judge = await loaded(FakeEngine(lambda text, labels: LabelScores(None, chosen=1), as_text=True))
    result = await judge.score_one(item(scenario=""))
    assert (result.scenario, result.scenario_probability) == (list(judge.scenarios)[1], None)


async def test_a_failed_classification_is_asked_again() -> None:
    failing = True

    def answer(text: str, labels: Labels) -> tuple[float, ...]:
        if failing:
            raise EngineUnavailable("starting")
        return logs(*[1 / len(labels.texts)] * len(labels.texts))

    judge = await loaded(FakeEngine(answer))
    assert (await judge.classify_one(QUESTION)).status is Status.UNAVAILABLE
    failing = False
    assert (await judge.classify_one(QUESTION)).status is Status.OK


# ---------------------------------------------------------------------------------------------------------- cost


async def test_the_cost_grows_with_every_text() -> None:
    judge = await loaded(FakeEngine())
    plain = judge.cost(item())
    assert plain > 0
    assert judge.cost(item("Paris." * 100)) > plain
    assert judge.cost(item(reference="R" * 300)) >= plain + 100
    assert judge.cost(replace(item(), messages=QUESTION * 50)) > plain
    assert 0 < judge.cost(QUESTION) < plain
    assert judge.cost(item(), Options()) == plain
    for mode in (CritiqueMode(), ReasoningMode(), CriteriaMode()):
        assert judge.cost(item(), Options(mode)) > plain
    reasoned = [judge.cost(item(), Options(ReasoningMode(samples=samples))) for samples in (1, 2, 4)]
    assert reasoned[1] - reasoned[0] >= 256
    assert reasoned[2] - reasoned[0] == 3 * (reasoned[1] - reasoned[0])
