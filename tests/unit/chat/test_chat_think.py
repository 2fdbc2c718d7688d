from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from themis_chat.think import Thought, split


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("<think>\nhm\n</think>\n\n4", Thought("hm", "4", closed=True, found=True)),
        ("\n<think>hm</think>4", Thought("hm", "4", closed=True, found=True)),
        ("<think></think>4", Thought("", "4", closed=True, found=True)),
        ("<think>hm", Thought("hm", "", closed=False, found=True)),
        ("4", Thought("", "4", closed=False, found=False)),
        ("", Thought("", "", closed=False, found=False)),
        ("4 <think>hm</think> 5", Thought("", "4 <think>hm</think> 5", closed=False, found=False)),
        ("hm</think>4", Thought("", "hm</think>4", closed=False, found=False)),
        ("<think>a</think>b<think>c</think>d", Thought("a", "b<think>c</think>d", closed=True, found=True)),
    ],
)
def test_reasoning_is_what_the_text_begins_with(text: str, thought: Thought) -> None:
    assert split(text) == thought


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("hm\n</think>\n4", Thought("hm", "4", closed=True, found=True)),
        ("hm", Thought("hm", "", closed=False, found=True)),
        ("</think>4", Thought("", "4", closed=True, found=True)),
        ("<think>hm</think>4", Thought("hm", "4", closed=True, found=True)),
    ],
)
def test_a_prompt_may_have_opened_the_reasoning(text: str, thought: Thought) -> None:
    assert split(text, opened=True) == thought


def test_the_tags_may_be_others() -> None:
    assert split("[THINK]hm[/THINK]4", tags=("[THINK]", "[/THINK]")) == Thought("hm", "4", closed=True, found=True)


words = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=40).map(lambda text: text.strip("\n"))


@given(reasoning=words, answer=words, opened=st.booleans())
def test_both_parts_survive(reasoning: str, answer: str, opened: bool) -> None:
    text = f"{reasoning}\n</think>\n\n{answer}"
    found = split(text if opened else f"<think>\n{text}", opened=opened)
    assert found == Thought(reasoning, answer, closed=True, found=True)


@given(text=st.text(max_size=60), opened=st.booleans())
def test_nothing_but_line_breaks_and_tags_is_lost(text: str, opened: bool) -> None:
    found = split(text, opened=opened)
    lost = len(text) - len(found.reasoning) - len(found.answer)
    assert lost <= len("<think></think>") + sum(text.count(space) for space in set(text) if space.isspace())
