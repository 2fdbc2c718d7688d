from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.events_records import texts
from themis_pipeline.events.ids import dead_letter, derived, ingress

names = texts.filter(bool)
derivations = st.tuples(names, names, st.integers(0, 2**40))


def test_ids_are_what_they_were() -> None:
    """They stand in archives and journals: a change would double every record that is handled again."""
    assert derived("input", "question", 3) == "32vopfxizamthpl27rivvuz52w"


@given(derivations, derivations)
@settings(deadline=None)
def test_ids_differ_as_their_parts_do(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert (derived(*one) == derived(*other)) == (one == other)


@given(names, names)
@settings(deadline=None)
def test_parts_do_not_run_into_each_other(left: str, right: str) -> None:
    assert derived(left + right, "s") != derived(left, right + "s")
    assert derived(left, right + "1", 1) != derived(left, right, 11)


@given(derivations)
@settings(deadline=None)
def test_an_id_is_short_and_plain(parts: tuple[str, str, int]) -> None:
    made = derived(*parts)
    assert len(made) == 26
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("parts", [("", "stage", 0), ("input", "", 0), ("input", "stage", -1)])
def test_nothing_is_derived_from_nothing(parts: tuple[str, str, int]) -> None:
    with pytest.raises(ValueError, match="derived"):
        derived(*parts)


def test_what_a_source_sends_twice_is_one_input() -> None:
    assert ingress("desk", "42", "new-prompts", 0, 7) == ingress("desk", "42", "new-prompts", 3, 99)
    assert ingress("desk", "42", "new-prompts", 0, 7) != ingress("wiki", "42", "new-prompts", 0, 7)
    assert ingress("desk", "42", "new-prompts", 0, 7) != ingress("desk", "42", "reference-texts", 0, 7)


def test_without_an_id_the_place_tells() -> None:
    places = [("t", 0, 1), ("t", 1, 0), ("t", 0, 11), ("t", 1, 1), ("u", 0, 1)]
    assert len({ingress("desk", "", *place) for place in places}) == len(places)
    assert ingress("desk", "", "t", 0, 1) == ingress("desk", "", "t", 0, 1)
    assert ingress("desk", "", "t", 0, 1) != ingress("desk", "0", "t", 0, 1)


def test_a_dead_letter_is_one_per_stage_and_place() -> None:
    assert dead_letter("label", "t", 0, 1) == dead_letter("label", "t", 0, 1)
    assert len({dead_letter(stage, "t", 0, offset) for stage in ("label", "plan") for offset in (1, 2)}) == 4
