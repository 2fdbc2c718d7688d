"""What selection keeps and drops, and that it does so again."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from themis_pipeline.select.candidates import Candidate, MixedScorers
from themis_pipeline.select.capping import Caps
from themis_pipeline.select.choosing import allotted, quotas
from themis_pipeline.select.outcome import Outcome, Reason
from themis_pipeline.select.outliers import pool_of, spread
from themis_pipeline.select.selection import Settings, select

PLAIN = Settings(sieve=None, scan=None)


def candidate(id: str, difficulty: float | None, scenario: str = "math", rating: str = "4") -> Candidate:
    return Candidate(id, scenario, "single", rating, difficulty, "s1", instruction=id, asked=id)


def line(count: int, scenario: str = "math", rating: str = "4") -> list[Candidate]:
    """Difficulties -0.01, -0.02, ... : the first is the highest."""
    return [candidate(f"{scenario}-{rating}-{n:03d}", -0.01 * (n + 1), scenario, rating) for n in range(count)]


def pair(name: str, difficulties: tuple[float, float], ratings: tuple[str, str] = ("a", "b")) -> list[Candidate]:
    return [
        Candidate(f"{name}-{order}", "math", "pairwise", ratings[order], difficulties[order], "s1", name, bool(order))
        for order in (0, 1)
    ]


def why(outcome: Outcome) -> dict[str, Reason]:
    return {decision.id: decision.reason for decision in outcome.decisions}


# ---------------------------------------------------------------------------------------------------- outliers


def test_median_and_deviation_by_hand() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 100.0])  # distances 2 1 0 1 97, their median 1
    assert (found.records, found.median) == (5, 3.0)
    assert found.deviation == pytest.approx(1.4826, abs=1e-4)
    assert found.z(100.0) == pytest.approx(97 / 1.4826, rel=1e-4)


def test_where_most_are_equal_the_mean_distance_tells() -> None:
    found = spread([0.0] * 9 + [10.0])
    assert found.deviation == pytest.approx(1.2533, abs=1e-4)
    assert spread([2.0, 2.0]).z(7.0) == 0.0


def test_of_ten_records_one_can_be_an_outlier() -> None:
    """By mean and standard deviation no z-score of ten values reaches 3."""
    outcome = select([*line(9), candidate("wild", -0.0001 + 50)], replace(PLAIN, drop_above_one=False))
    assert [id for id, reason in why(outcome).items() if reason is Reason.OUTLIER] == ["wild"]


def test_outliers_are_told_within_scenario_and_template() -> None:
    high = [
        replace(one, id=f"h{one.id}", scenario="open_qa", difficulty=-0.01 * n + 5) for n, one in enumerate(line(20))
    ]
    wild = candidate("wild", 5.0)
    outcome = select([*line(20), *high, wild], replace(PLAIN, drop_above_one=False))
    assert [id for id, reason in why(outcome).items() if reason is Reason.OUTLIER] == ["wild"]
    apart = replace(wild, template="reference")
    assert "wild" in select([*line(20), apart], replace(PLAIN, drop_above_one=False)).kept


def test_a_small_pool_tells_no_outliers() -> None:
    outcome = select([*line(8), candidate("wild", 50.0)], replace(PLAIN, drop_above_one=False))
    assert "wild" in outcome.kept


def test_a_frozen_pool_says_the_same_whatever_has_come_since() -> None:
    pool = pool_of(line(30))
    later = [*line(30), *(candidate(f"n{n}", 1.0 + n * 0.1) for n in range(300)), candidate("wild", 2.0)]
    settings = replace(PLAIN, drop_above_one=False)
    assert why(select(later, settings, pool))["wild"] is Reason.OUTLIER
    assert why(select(later, settings))["wild"] is Reason.KEPT
    assert select(later, settings, pool).pool is pool


def test_the_bound_can_be_left_out() -> None:
    settings = replace(PLAIN, drop_above_one=False, outlier_z=None)
    assert "wild" in select([*line(20), candidate("wild", 50.0)], settings).kept


# ---------------------------------------------------------------------------------------------------- above one


@pytest.mark.parametrize(("definition", "limit"), [("log_perplexity_ratio", 0.0), ("mean_loss_ratio", 1.0)])
def test_what_the_prompt_harms_is_dropped_or_not(definition: str, limit: float) -> None:
    asked = [candidate("below", limit - 0.01), candidate("at", limit), candidate("above", limit + 0.01)]
    settings = replace(PLAIN, definition=definition)  # type: ignore[arg-type]
    assert why(select(asked, settings))["above"] is Reason.ABOVE_ONE
    assert select(asked, settings).kept == ("at", "below")
    assert len(select(asked, replace(settings, drop_above_one=False)).kept) == 3


# ---------------------------------------------------------------------------------------------------- numbers


def test_highest_middle_and_random() -> None:
    asked = line(9)
    names = [one.id for one in asked]
    assert select(asked, replace(PLAIN, top=3)).kept == tuple(names[:3])
    assert select(asked, replace(PLAIN, top=3, order="middle")).kept == tuple(names[3:6])
    drawn = select(asked, replace(PLAIN, top=3, order="random")).kept
    assert len(drawn) == 3
    assert len({select(asked, replace(PLAIN, top=3, order="random", seed=seed)).kept for seed in range(20)}) > 5


def test_chance_stays_when_others_come() -> None:
    """What is left of the first draw is drawn again before anything that it stood before."""
    settings = replace(PLAIN, order="random", share=0.5)
    before, after = set(select(line(40), settings).kept), set(select(line(60), settings).kept)
    dropped = {one.id for one in line(40)} - before
    assert not (dropped & after and before - after)


def test_a_share_is_taken_of_each_scenario_and_rating() -> None:
    asked = [*line(40, rating="4"), *line(20, rating="1"), *line(10, "open_qa", "5")]
    kept = Counter(id.rpartition("-")[0] for id in select(asked, replace(PLAIN, share=0.5)).kept)
    assert kept == {"math-4": 20, "math-1": 10, "open_qa-5": 5}


def test_the_balance_of_ratings_survives_though_one_is_harder() -> None:
    hard = [replace(one, difficulty=-0.0001 * n) for n, one in enumerate(line(30, rating="1"), 1)]
    kept = Counter(id.split("-")[1] for id in select([*line(30, rating="5"), *hard], replace(PLAIN, top=20)).kept)
    assert kept == {"1": 10, "5": 10}


def test_scenarios_keep_the_ratios_asked_for() -> None:
    asked = [*line(50), *line(50, "open_qa"), *line(50, "role_play")]
    outcome = select(asked, replace(PLAIN, top=40, ratios={"math": 3, "open_qa": 1}))
    assert Counter(id.split("-")[0] for id in outcome.kept) == {"math": 30, "open_qa": 10}
    assert outcome.counts[Reason.NOT_ASKED] == 50
    assert outcome.shortfall == {}


def test_what_one_scenario_lacks_is_said_and_not_made_up_for() -> None:
    asked = [*line(10), *line(50, "open_qa")]
    outcome = select(asked, replace(PLAIN, top=60, ratios={"math": 1, "open_qa": 1, "legal": 1}))
    assert Counter(id.split("-")[0] for id in outcome.kept) == {"math": 10, "open_qa": 20}
    assert outcome.shortfall == {"math": 10, "legal": 20}


def test_ratios_alone_take_as_many_as_they_allow() -> None:
    outcome = select([*line(10), *line(50, "open_qa")], replace(PLAIN, ratios={"math": 1, "open_qa": 2}))
    assert Counter(id.split("-")[0] for id in outcome.kept) == {"math": 10, "open_qa": 20}


def test_more_than_there_is_is_a_shortfall() -> None:
    outcome = select(line(5), replace(PLAIN, top=8))
    assert (len(outcome.kept), outcome.shortfall) == (5, {"all": 3})


@given(some.integers(0, 500), some.dictionaries(some.sampled_from("abcdefgh"), some.integers(0, 99), max_size=8))
def test_parts_add_up_and_are_close_to_their_weights(total: int, weights: dict[str, int]) -> None:
    whole = sum(weights.values())
    parts = allotted(total, weights)
    assert sum(parts.values()) == (total if whole else 0)
    assert all(abs(parts[key] - total * weights[key] / whole) < 1 for key in parts if whole)
    if total <= whole:
        assert all(parts[key] <= weights[key] for key in parts)


@given(
    some.dictionaries(some.sampled_from("abcd"), some.integers(1, 99), min_size=1),
    some.one_of(some.none(), some.integers(0, 400)),
    some.dictionaries(some.sampled_from("abcd"), some.floats(0.1, 9), max_size=4),
)
def test_no_scenario_is_asked_for_more_than_it_has(
    available: dict[str, int], top: int | None, ratios: dict[str, float]
) -> None:
    numbers, lacking = quotas(available, top, None, ratios)
    assert all(0 <= number <= available.get(key, 0) for key, number in numbers.items())
    if top is not None:
        assert sum(numbers.values()) + sum(lacking.values()) == top


# ---------------------------------------------------------------------------------------------------- pairs


def test_both_orders_are_taken_or_dropped_together() -> None:
    asked = [*pair("p", (-0.1, 0.5)), *pair("q", (-0.1, -0.2)), *pair("r", (-0.3, -0.4)), *pair("s", (-0.5, -0.6))]
    outcome = select(asked, replace(PLAIN, top=4))
    assert why(outcome)["p-0"] is why(outcome)["p-1"] is Reason.ABOVE_ONE
    assert outcome.kept == ("q-0", "q-1", "r-0", "r-1")


def test_an_odd_number_does_not_split_a_pair() -> None:
    asked = [*pair("q", (-0.1, -0.2)), *pair("r", (-0.3, -0.4))]
    assert select(asked, replace(PLAIN, top=3)).kept == ("q-0", "q-1")


def test_a_pair_with_one_order_is_no_pair() -> None:
    lone, twice = pair("p", (-0.1, -0.1))[:1], [replace(one, swapped=False) for one in pair("q", (-0.1, -0.1))]
    outcome = select([*lone, *twice, *line(2)], PLAIN)
    assert [why(outcome)[id] for id in ("p-0", "q-0", "q-1")] == [Reason.INCOMPLETE_PAIR] * 3


def test_a_pair_may_be_called_as_a_record_is() -> None:
    asked = [*pair("x", (-0.5, -0.5)), candidate("x", -0.1)]
    assert select(asked, replace(PLAIN, top=1)).kept == ("x",)
    assert len(select(asked, PLAIN).kept) == 3


# ---------------------------------------------------------------------------------------------------- records


def test_what_has_no_number_is_never_chosen() -> None:
    outcome = select([candidate("none", None), *line(2)], PLAIN)
    assert why(outcome)["none"] is Reason.NOT_SCORED
    assert outcome.decisions[-1].difficulty is None


def test_a_judge_does_not_learn_from_its_own_lineage() -> None:
    asked = [replace(candidate("own", -0.1), own_lineage=True), *line(2)]
    assert why(select(asked, PLAIN))["own"] is Reason.OWN_LINEAGE
    assert "own" in select(asked, replace(PLAIN, keep_judge_lineage=True)).kept


def test_difficulties_of_two_scorers_do_not_mix() -> None:
    asked = [*line(3), replace(candidate("other", -0.1), scorer="s2")]
    with pytest.raises(MixedScorers, match="s1, s2"):
        select(asked, PLAIN)
    assert select(asked, replace(PLAIN, scorer="s2")).kept == ("other",)


def test_a_repeated_record_counts_once() -> None:
    outcome = select([*line(3), *line(3)], PLAIN)
    assert (len(outcome.kept), outcome.counts[Reason.REPEATED]) == (3, 3)


def test_every_candidate_has_one_reason() -> None:
    asked = [*line(30), *pair("p", (-0.1, 0.5)), candidate("none", None), *line(3)]
    outcome = select(asked, replace(PLAIN, share=0.5))
    assert len(outcome.decisions) == sum(outcome.counts.values()) == len(asked)


def test_the_order_of_candidates_is_of_no_matter() -> None:
    asked = [*line(50), *line(30, "open_qa", "2"), *pair("p", (-0.1, -0.2)), candidate("none", None), *line(5)]
    asked += [replace(one, id=f"x{one.id}", difficulty=-0.1) for one in line(20)]
    settings = Settings(share=0.3, order="middle")
    first = select(asked, settings)
    for seed in range(5):
        random.Random(seed).shuffle(asked)
        assert select(asked, settings) == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"top": 1, "share": 0.5},
        {"top": -1},
        {"share": 1.5},
        {"ratios": {"math": -1.0}},
        {"ratios": {"math": 0.0}},
        {"ratios": {"math": float("nan")}},
        {"outlier_z": 0.0},
    ],
)
def test_settings_that_can_not_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- sources


def fed(source: str, count: int, scenario: str = "math") -> list[Candidate]:
    return [
        replace(one, id=f"{source}-{one.id}", instruction=f"{source}-{one.id}", source=source, people_fed=True)
        for one in line(count, scenario)
    ]


def kept_of(outcome: Outcome) -> Counter[str]:
    return Counter(decision.source for decision in outcome.decisions if decision.kept)


def test_no_people_fed_source_is_more_than_its_share_of_what_is_kept() -> None:
    own = [replace(one, source="plans") for one in line(30)]
    outcome = select([*fed("forum", 200), *fed("wiki", 20), *own], PLAIN)
    assert kept_of(outcome) == {"forum": 50, "wiki": 20, "plans": 30}
    assert Counter(why(outcome).values()) == {Reason.KEPT: 100, Reason.SOURCE_CAP: 150}
    assert next(one for one in outcome.decisions if one.reason is Reason.SOURCE_CAP).detail == "0.5 of what is kept"


def test_what_a_cap_leaves_is_offered_to_other_sources() -> None:
    """The forum's are the hardest 60: without a cap it would be all."""
    easier = [replace(one, difficulty=(one.difficulty or 0.0) - 5) for one in fed("wiki", 100)]
    candidates, settings = [*fed("forum", 60), *easier], replace(PLAIN, top=40, outlier_z=None)
    assert kept_of(select(candidates, replace(settings, caps=Caps(None)))) == {"forum": 40}
    assert kept_of(select(candidates, settings)) == {"forum": 20, "wiki": 20}


def test_a_source_can_have_a_share_of_its_own() -> None:
    candidates = [*fed("forum", 100), *fed("wiki", 90)]
    outcome = select(candidates, replace(PLAIN, caps=Caps(None, {"forum": 0.1})))
    assert kept_of(outcome) == {"forum": 10, "wiki": 90}
    assert kept_of(select(candidates, replace(PLAIN, caps=Caps(None, {"forum": 0.0})))) == {"wiki": 90}


def test_a_cap_on_the_only_source_says_nothing() -> None:
    assert kept_of(select(fed("forum", 30), PLAIN)) == {"forum": 30}


def test_pairs_stay_whole_under_a_cap() -> None:
    pairs = [
        replace(one, source="forum", people_fed=True) for n in range(20) for one in pair(f"p{n}", (-0.1 * n, -0.1 * n))
    ]
    outcome = select([*pairs, *(replace(one, source="plans") for one in line(7))], PLAIN)
    assert kept_of(outcome) == {"forum": 6, "plans": 7}  # 7 would be its half
    kept = Counter(decision.id.rsplit("-", 1)[0] for decision in outcome.decisions if decision.kept)
    assert all(count == 2 for name, count in kept.items() if name.startswith("p"))


@given(some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=60), some.floats(0.05, 1.0))
def test_caps_hold_whatever_there_is(sources: list[tuple[str, bool]], share: float) -> None:
    candidates = [
        replace(candidate(f"c{n:03d}", -0.01 * n), source=source if people else "plans", people_fed=people)
        for n, (source, people) in enumerate(sources)
    ]
    found = kept_of(select(candidates, replace(PLAIN, caps=Caps(share))))
    if len({(one.source, one.people_fed) for one in candidates}) > 1:
        assert all(count <= share * found.total() + 1e-6 for source, count in found.items() if source != "plans")
    else:
        assert found.total() == len(candidates)


@pytest.mark.parametrize("caps", [(1.5, {}), (None, {"forum": -0.1})])
def test_a_share_that_is_none_is_refused(caps: tuple[float | None, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="share"):
        Caps(*caps)


def test_of_records_with_one_id_the_one_that_was_decided_on_is_kept() -> None:
    twins = [replace(candidate("same", difficulty), place=place) for difficulty, place in ((-0.2, "b"), (-0.1, "a"))]
    outcome = select(twins, PLAIN)
    assert [(one.place, one.reason) for one in outcome.decisions] == [("a", Reason.KEPT), ("b", Reason.REPEATED)]
    assert outcome.kept_places == {"a"}


def test_of_a_record_that_two_scorers_scored_the_one_that_is_asked_for_stays() -> None:
    twins = [replace(candidate("same", -0.1 * n), scorer=scorer, place=scorer) for n, scorer in enumerate(("s1", "s2"))]
    unscored = replace(candidate("same", None), scorer=None, place="a")
    for wanted in ("s1", "s2"):
        outcome = select([unscored, *twins], replace(PLAIN, scorer=wanted))
        assert outcome.kept_places == {wanted}
    with pytest.raises(MixedScorers, match="s1, s2"):
        select(twins, PLAIN)
