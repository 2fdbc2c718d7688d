from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from themis_chat.errors import Unreadable
from themis_chat.query import LEAST_CHARACTERS, response_of
from themis_chat.templates import by_name

PROMPT = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"


def test_the_response_is_what_follows_the_prompt() -> None:
    assert response_of(PROMPT + "4<|im_end|>", PROMPT) == (PROMPT, "4<|im_end|>")


def test_a_response_may_be_empty() -> None:
    assert response_of(PROMPT, PROMPT) == (PROMPT, "")


def test_a_prompt_that_was_cut_on_the_left_is_found_by_its_end() -> None:
    seen = PROMPT[9:]
    assert response_of(seen + "4", PROMPT) == (seen, "4")


def test_the_longest_end_counts() -> None:
    period = "0123456789abcdef"
    prompt = "start " + period * 4
    assert response_of(period * 3 + "!", prompt) == (period * 3, "!")


FILLERS = by_name("chatml").fillers


@pytest.mark.parametrize("begin", ["", "<|endoftext|>"])
@pytest.mark.parametrize("reply", ["4<|im_end|>", ""])
def test_padding_on_the_left_is_skipped(begin: str, reply: str) -> None:
    prompt = begin + PROMPT
    assert response_of("<|endoftext|>" * 3 + prompt + reply, prompt, FILLERS) == (prompt, reply)


@pytest.mark.parametrize(
    "query", ["<|endoftext|>" * 3 + "4", "<|endoftext|>" * 3 + "x" + PROMPT, "x<|endoftext|>" + PROMPT]
)
def test_padding_before_anything_else_is_refused(query: str) -> None:
    with pytest.raises(Unreadable):
        response_of(query, PROMPT, FILLERS)


@pytest.mark.parametrize("query", ["", "4", PROMPT[-LEAST_CHARACTERS + 1 :] + "4", "x" + PROMPT])
def test_what_does_not_hold_the_prompt_is_refused(query: str) -> None:
    with pytest.raises(Unreadable) as caught:
        response_of(query, PROMPT)
    assert (caught.value.where, caught.value.character) == ("query", 0)


def test_an_empty_prompt_leaves_all_to_the_response() -> None:
    assert response_of("4", "") == ("", "4")


@given(prompt=st.text("ab", min_size=20, max_size=120), cut=st.integers(1, 100), reply=st.text("ab", max_size=40))
def test_the_longest_end_is_what_a_search_of_all_ends_finds(prompt: str, cut: int, reply: str) -> None:
    query = prompt[cut:] + reply
    ends = [prompt[at:] for at in range(len(prompt)) if query.startswith(prompt[at:])]
    longest = max(ends, key=len, default="")
    if len(longest) < LEAST_CHARACTERS:
        with pytest.raises(Unreadable):
            response_of(query, prompt)
    else:
        assert response_of(query, prompt) == (longest, query[len(longest) :])


def test_texts_that_repeat_themselves_take_no_quadratic_time() -> None:
    prompt = "b" + "a" * 300_000  # each of its ends begins like the query: one by one they would take minutes
    assert response_of("a" * 200_000 + "b", prompt) == ("a" * 200_000, "b")


def test_padding_that_repeats_itself_takes_no_quadratic_time() -> None:
    pads = "<|endoftext|>" * 40_000
    assert response_of(pads + "<|im_end|>" + pads + "y" + "4", pads + "y", FILLERS) == (pads + "y", "4")
