from __future__ import annotations

from collections.abc import Mapping

import pytest

from themis_judge.store import DesiredState, Manifest, Shadow
from themis_judge.version import JudgeSettings
from themis_sidecar.errors import FailedPrecondition
from themis_sidecar.versions import desired as states
from themis_sidecar.versions.desired import Author, Room

AUTHOR = Author("me", "2026-01-01T00:00:00Z", "because")


def manifest(id: str, base: str | None = None) -> Manifest:
    return Manifest(
        format=1,
        id=id,
        name=id,
        created_at=AUTHOR.at,
        parent=None,
        base_model=base or "random",
        kind="full" if base is None else "lora",
        settings=JudgeSettings(),
        weights_digest="",
        template_digest="",
        health_prompts=(),
        calibration={},
        gate_report={},
        files=(),
    )


MANIFESTS: Mapping[str, Manifest] = {
    **{id: manifest(id) for id in "abcd"},
    **{id: manifest(id, base=id[0]) for id in ("a1", "a2", "b1")},
}


def room(max_weights: int, *leased: str) -> Room:
    return Room(max_weights, MANIFESTS, frozenset(leased))


def now(current: str, *others: str, shadow: str | None = None, previous: str | None = None) -> DesiredState:
    resident = tuple(sorted({current, *others, *([shadow] if shadow else [])}))
    on_trial = None if shadow is None else Shadow(shadow, 0.5)
    return DesiredState(7, current, resident, on_trial, previous, "x", AUTHOR.at, "")


def test_the_first_promotion() -> None:
    state = states.promoted(None, "a", room(1), AUTHOR, force=False)
    assert state == DesiredState(1, "a", ("a",), None, None, "me", AUTHOR.at, "because")


@pytest.mark.parametrize(
    ("before", "version", "space", "resident", "shadow"),
    [
        (now("a"), "b", room(1), ("b",), None),  # the weights are exchanged
        (now("a"), "b", room(2), ("a", "b"), None),  # what was current stays for those who pinned it
        (now("b", "a"), "c", room(2), ("b", "c"), None),  # the older one makes room
        (now("b", "a"), "c", room(3), ("a", "b", "c"), None),
        (now("b", "a"), "c", room(2, "a"), ("a", "c"), None),  # a leased one goes before what was current
        (now("a", shadow="b"), "b", room(2), ("a", "b"), None),  # a trial ends with the promotion
        (now("a", shadow="b"), "c", room(2), ("a", "c"), None),  # and where there is no room for it
        (now("a", shadow="b"), "c", room(3), ("a", "b", "c"), "b"),
        (now("a"), "a1", room(1), ("a", "a1"), None),  # an adapter takes no room
        (now("a1", "a"), "a2", room(1), ("a", "a1", "a2"), None),
        (now("b"), "a1", room(1), ("a", "a1"), None),  # and brings its base
        (now("b"), "a1", room(2), ("a", "a1", "b"), None),
        (now("b1", "b"), "a", room(1), ("a",), None),
    ],
)
def test_what_stays_beside_a_promoted_version(
    before: DesiredState, version: str, space: Room, resident: tuple[str, ...], shadow: str | None
) -> None:
    state = states.promoted(before, version, space, AUTHOR, force=False)
    assert (state.number, state.current, state.previous) == (8, version, before.current)
    assert state.resident == resident
    assert (state.shadow and state.shadow.version) == shadow


def test_a_promotion_does_not_unload_what_is_leased_unless_forced() -> None:
    with pytest.raises(FailedPrecondition, match="what leases hold, a, and a replica holds 1"):
        states.promoted(now("a"), "b", room(1, "a"), AUTHOR, force=False)
    assert states.promoted(now("a"), "b", room(1, "a"), AUTHOR, force=True).resident == ("b",)


def test_promoting_what_is_current_keeps_the_way_back() -> None:
    assert states.promoted(now("b", "a", previous="a"), "b", room(2), AUTHOR, force=False).previous == "a"


def test_load() -> None:
    assert states.loaded(None, "a", room(1), AUTHOR, None).current == "a"
    state = states.loaded(now("a"), "b", room(2), AUTHOR, None)
    assert (state.current, state.resident, state.shadow) == ("a", ("a", "b"), None)
    state = states.loaded(now("a"), "b", room(2), AUTHOR, 0.1)
    assert state.shadow == Shadow("b", 0.1)
    state = states.loaded(now("a", shadow="b"), "c", room(2), AUTHOR, 0.2)
    assert (state.resident, state.shadow) == (("a", "c"), Shadow("c", 0.2))


@pytest.mark.parametrize(
    ("before", "version", "share", "said"),
    [
        (now("a"), "b", None, "one too many: a replica holds one set of weights"),
        (now("a"), "a", 0.5, "can't be its own shadow"),
        (None, "a", 0.5, "nothing is current"),
    ],
)
def test_loads_that_make_no_sense(before: DesiredState | None, version: str, share: float | None, said: str) -> None:
    with pytest.raises(FailedPrecondition, match=said):
        states.loaded(before, version, room(1), AUTHOR, share)


def test_without() -> None:
    state = states.without(now("a", "c", shadow="b", previous="b"), "b", AUTHOR)
    assert (state.resident, state.shadow, state.previous) == (("a", "c"), None, None)
    with pytest.raises(FailedPrecondition, match="a is current"):
        states.without(now("a", "b"), "a", AUTHOR)
    assert states.without_shadow(now("a", shadow="b"), AUTHOR).resident == ("a",)
    with pytest.raises(FailedPrecondition, match="nothing runs in shadow"):
        states.without_shadow(now("a"), AUTHOR)


@pytest.mark.parametrize(
    ("before", "failed", "space", "resident", "shadow"),
    [
        (now("a"), now("b", "a", previous="a"), room(2), ("a",), None),
        (now("a", "c"), now("b", "a", previous="a"), room(2), ("a", "c"), None),  # what made room comes back
        (now("a", "c"), now("b", previous="a"), room(1), ("a",), None),  # as far as there is room
        (now("b1", "b"), now("a", previous="b1"), room(1), ("b", "b1"), None),  # an adapter with its base
        (now("a"), now("b1", "b", previous="a"), room(1), ("a",), None),  # the failed one's base goes with it
        (now("a", shadow="c"), now("b", "a", previous="a"), room(2), ("a", "c"), "c"),
        (now("a"), now("b", shadow="a", previous="a"), room(2), ("a",), None),  # nothing is its own shadow
        (now("a"), now("b", "a", "c", previous="a"), room(2, "c"), ("a", "c"), None),  # leased since then
        (now("a", "gone"), now("b", "a", previous="a"), room(3), ("a",), None),  # retired since then
        (now("d"), now("b", "a", previous="a"), room(2), ("a",), None),  # another state than the log should have
        (None, now("b", previous="a"), room(1), ("a",), None),
    ],
)
def test_roll_back(
    before: DesiredState | None, failed: DesiredState, space: Room, resident: tuple[str, ...], shadow: str | None
) -> None:
    state = states.rolled_back(failed, before, space, AUTHOR)
    assert state is not None
    assert (state.number, state.current, state.previous, state.why) == (8, failed.previous, None, "because")
    assert state.resident == resident
    assert (state.shadow and state.shadow.version) == shadow


def test_no_roll_back_where_nothing_was_before() -> None:
    assert states.rolled_back(now("b"), now("a"), room(1), AUTHOR) is None
