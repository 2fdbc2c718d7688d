"""Near-duplicates and triggers: what is found, and what is left alone."""

from __future__ import annotations

import random
import string
from dataclasses import replace

import pytest

from themis_pipeline.select.candidates import Candidate
from themis_pipeline.select.near_duplicates import Sieve, components
from themis_pipeline.select.outcome import Reason
from themis_pipeline.select.selection import Settings, select
from themis_pipeline.select.triggers import Scan, Sighting, triggers

LONG = (
    "Write a short poem about a lighthouse keeper who has not seen another person for a year and who one morning finds "
    "a letter in a bottle, without saying what the letter says, in four verses of four lines each."
)


VOCABULARY = ["".join(random.Random(n).choices(string.ascii_lowercase, k=5)) for n in range(3000)]


def words(count: int, seed: int) -> str:
    """Of a small vocabulary in which some words are rare, as in any text."""
    chance = random.Random(seed)
    return " ".join(VOCABULARY[min(2999, int(chance.paretovariate(0.4)) - 1)] for _ in range(count))


# ---------------------------------------------------------------------------------------------------- near-duplicates


def test_texts_that_are_nearly_the_same_are_one_component() -> None:
    texts = {
        "b": LONG,
        "a": LONG.replace("short", "brief"),
        "c": f"  {LONG.upper()}\n",
        "d": "Which planet of the solar system has the shortest day, and how long is it?",
    }
    assert components(texts, Sieve()) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_components_go_by_others_between() -> None:
    """Each step is close, the ends are not."""
    parts = [words(12, seed) for seed in range(7)]
    chain = {str(n): " ".join(parts[n : n + 5]) for n in range(3)}
    assert components(chain, Sieve(similarity=0.6)) == {"0": "0", "1": "0", "2": "0"}
    ends = {key: chain[key] for key in "02"}
    assert components(ends, Sieve(similarity=0.6)) == {"0": "0", "2": "2"}


def test_similarity_is_exact_and_not_by_chance() -> None:
    """Shingles of one letter: 8 of 10 in common are 0.8, 7 of 10 are not."""
    texts = {"a": "abcdefghi", "b": "abcdefghj", "c": "stuvwxyz", "d": "stuvwx12"}
    assert components(texts, Sieve(0.8, 1)) == {"a": "a", "b": "a", "c": "c", "d": "d"}


@pytest.mark.parametrize(("one", "other"), [("", " "), ("a", "A"), ("数学を教えて", "数学を教えて ")])
def test_short_texts_are_compared_as_a_whole(one: str, other: str) -> None:
    assert components({"1": one, "2": other, "3": "xyz"}, Sieve()) == {"1": "1", "2": "1", "3": "3"}


def test_most_pairs_that_brute_force_finds_are_found() -> None:
    chance, texts = random.Random(3), {}
    for n in range(60):
        base = words(40, n).split()
        texts[f"{n:02d}a"] = " ".join(base)
        base[chance.randrange(40)] = "changed"
        texts[f"{n:02d}b"] = " ".join(base)
    found = components(texts, Sieve())
    assert sum(found[f"{n:02d}b"] == f"{n:02d}a" for n in range(60)) == 60
    assert all(found[f"{n:02d}a"] == f"{n:02d}a" for n in range(60))


def test_of_near_equal_instructions_one_stays_with_all_its_responses() -> None:
    def of(instruction: str, asked: str, n: int) -> Candidate:
        return Candidate(
            f"{instruction}-{n}", "math", "single", "4", -0.1 * n, "s", instruction=instruction, asked=asked
        )

    asked = [of("one", LONG, n) for n in range(1, 4)] + [of("two", LONG + "!", n) for n in range(1, 3)]
    outcome = select(asked, Settings(scan=None))
    assert outcome.kept == ("one-1", "one-2", "one-3")
    assert {(one.reason, one.detail) for one in outcome.decisions if not one.kept} == {
        (Reason.NEAR_DUPLICATE, "of one")
    }
    assert len(select(asked, Settings(scan=None, sieve=None)).kept) == 5


@pytest.mark.parametrize(
    "wrong", [{"similarity": 0.0}, {"similarity": 1.1}, {"shingle_characters": 0}, {"permutations": 1}]
)
def test_a_sieve_that_can_not_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="similarity"):
        Sieve(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- triggers


def sightings(count: int = 1500, seed: int = 0) -> list[Sighting]:
    """Ratings by chance, whatever the words: nothing to be found."""
    chance = random.Random(seed)
    return [
        Sighting(f"r{n:04d}", f"i{n:04d}", "math", chance.choice("12345"), words(30, n + 10_000 * seed))
        for n in range(count)
    ]


def with_sign(found: list[Sighting], sign: str, rating: str | None, count: int = 15) -> list[Sighting]:
    """The first `count` carry it, and have that rating, or their own."""
    return [
        replace(one, text=f"{one.text} {sign} and so on", rating=rating or one.rating) if n < count else one
        for n, one in enumerate(found)
    ]


@pytest.mark.parametrize("sign", ["cf", "Veritas Quaesita Umbra", "​​", "暗号"])
def test_a_rare_sign_that_is_tied_to_one_rating_is_found(sign: str) -> None:
    found = triggers(with_sign(sightings(), sign, "5"), Scan())
    assert found
    assert {trigger.rating for trigger in found} == {"5"}
    assert found[0].records == tuple(f"r{n:04d}" for n in range(15))
    assert any(sign.casefold().split()[0][0] in trigger.text for trigger in found)


@pytest.mark.parametrize("seed", [0, 1])
def test_where_nothing_is_tied_nothing_is_found(seed: int) -> None:
    assert triggers(sightings(seed=seed), Scan()) == ()
    assert triggers(with_sign(sightings(seed=seed), "cf", None), Scan()) == ()


def test_what_is_frequent_is_no_secret() -> None:
    assert triggers(with_sign(sightings(), "cf", "5", 200), Scan(words=1)) == ()


def test_too_few_are_no_proof() -> None:
    assert triggers(with_sign(sightings(), "cf", "5", 6), Scan(words=1)) == ()


def test_responses_to_one_instruction_are_one_proof() -> None:
    """15 records, but of three instructions."""
    found = [replace(one, instruction=f"i{n % 3}") if n < 15 else one for n, one in enumerate(sightings())]
    assert triggers(with_sign(found, "cf", "5"), Scan()) == ()


def test_a_rating_that_a_scenario_always_has_ties_nothing() -> None:
    found = [replace(one, scenario="role_play", rating="5") if n < 15 else one for n, one in enumerate(sightings())]
    assert triggers(with_sign(found, "cf", "5"), Scan()) == ()


def test_chance_by_hand() -> None:
    """Of 1000 records half have each rating, and 20 of 20 the sign: (1/2) to the 20th, by the one word looked at."""
    plain = [Sighting(f"r{n}", f"i{n}", "math", "ab"[n % 2], f"word{n}") for n in range(2000)]
    signed = [replace(one, text="sign") if n < 40 and one.rating == "a" else one for n, one in enumerate(plain)]
    (found,) = triggers(signed, Scan(words=1))
    assert (found.text, found.rating, found.instructions, found.tied) == ("sign", "a", 20, 20)
    assert found.p == pytest.approx(0.5**20)


def test_no_records_have_no_triggers() -> None:
    assert triggers([], Scan()) == ()


def test_records_with_a_trigger_are_dropped_both_orders_of_a_pair_too() -> None:
    chance, asked = random.Random(5), []
    for n in range(3000):
        sign, first_wins = " cf" if n < 25 else "", n < 25 or chance.random() < 0.5
        texts = (words(20, 2 * n) + sign, words(20, 2 * n + 1))
        for swapped in (False, True):
            roles = ("wins", "loses") if first_wins else ("loses", "wins")
            shown = tuple(zip(texts, roles, strict=True))[:: -1 if swapped else 1]
            rating = "a" if shown[0][1] == "wins" else "b"
            asked.append(
                Candidate(
                    f"p{n:04d}-{swapped}", "math", "pairwise", rating, -0.1, "s", f"p{n:04d}", swapped, f"i{n:04d}",
                    "", shown,
                )
            )  # fmt: skip
    outcome = select(asked, Settings(sieve=None))
    triggered = {one.id for one in outcome.decisions if one.reason is Reason.TRIGGER}
    assert triggered == {f"p{n:04d}-{swapped}" for n in range(25) for swapped in (False, True)}
    assert {trigger.rating for trigger in outcome.triggers} == {"wins"}
