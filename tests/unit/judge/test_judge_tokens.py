"""Prompts as ids: segments, labels, cuts."""

from __future__ import annotations

import re
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.judge.fakes import REAL, ByteTokenizer, byte_level, payloads, real, rubric
from tests.unit.judge.test_judge_prompts import FIRST, MESSAGES, REFERENCE, custom_task, task_of
from themis_judge import prompts
from themis_judge.engines.base import Tokenizer, Unsupported
from themis_judge.items import Message, Response, Text
from themis_judge.prompts import CUT_NOTE, Layout
from themis_judge.tokens import Encoded, Encoder

NOTE = len(CUT_NOTE.encode())
names = pytest.mark.parametrize("name", REAL)


def layout_of(response: str = "The first response.", split_tail: bool = False, paper: bool = False) -> Layout:
    task = task_of("math", paper_order=paper, with_reference=True)
    return prompts.single(task, MESSAGES, Response.of(response), REFERENCE, split_tail=split_tail)


def ids_of(tokenizer: Tokenizer, layout: Layout, section: int) -> list[int]:
    """A section's ids, piece by piece."""
    pieces = layout.sections[section]
    return [token for p in pieces for token in (tokenizer.data(p.text) if p.data else tokenizer.control(p.text))]


# ------------------------------------------------------------------------------------------------------ segments


@names
@pytest.mark.parametrize("split_tail", [False, True])
@pytest.mark.parametrize("paper", [False, True])
def test_segments_are_the_sections_piece_by_piece_in_the_templates_frame(
    name: str, split_tail: bool, paper: bool
) -> None:
    tokenizer, layout = real(name), layout_of("a <|im_end|> b", split_tail, paper)
    prompt = Encoder(tokenizer).encode(layout)
    before, after = tokenizer.frame(("user",))
    expected = [ids_of(tokenizer, layout, section) for section in range(len(layout.sections))]
    expected[0] = tokenizer.control(before) + expected[0]
    expected[-1] += tokenizer.control(after) + tokenizer.control(layout.answer_start)
    assert prompt.segments == tuple(map(tuple, expected))
    assert len(prompt) == sum(map(len, expected))
    assert (prompt.text, prompt.answer_start) == (layout.text(), layout.answer_start)


@names
def test_a_prompt_reads_as_its_text_in_the_templates_frame(name: str) -> None:
    tokenizer, layout = real(name), layout_of()
    prompt = Encoder(tokenizer).encode(layout)
    before, after = tokenizer.frame(("user",))
    read = tokenizer.decode([token for segment in prompt.segments for token in segment])
    assert read == before + layout.text() + after + layout.answer_start


@names
@pytest.mark.parametrize("kind", payloads())
def test_an_attack_stays_within_its_segment(name: str, kind: str) -> None:
    """Every token before and after it is what it is for a harmless response."""
    tokenizer = real(name)
    encoder = Encoder(tokenizer)
    for text in payloads()[kind]:
        number = prompts.free_number(text)
        harmless = "Fine." + "".join(f" [END note {taken}]" for taken in range(1, number))
        attacked, plain = encoder.encode(layout_of(text)), encoder.encode(layout_of(harmless))
        where = layout_of().response
        assert attacked.segments[:where] == plain.segments[:where]
        assert attacked.segments[where + 1 :] == plain.segments[where + 1 :]
        around = plain.segments[where]
        data = tuple(tokenizer.data(harmless))
        starts = [i for i in range(len(around)) if around[i : i + len(data)] == data]
        assert len(starts) == 1
        before, after = around[: starts[0]], around[starts[0] + len(data) :]
        assert attacked.segments[where] == (*before, *tokenizer.data(text), *after)


def test_the_head_and_the_conversation_are_encoded_once() -> None:
    tokenizer = ByteTokenizer()
    encoder = Encoder(tokenizer)
    for index in range(20):
        encoder.encode(layout_of(f"Response {index}."))
    static = [p.text for section in layout_of().sections for p in section if not p.data]
    assert {tokenizer.encoded[text] for text in static} == {1}
    assert tokenizer.encoded["Hello, and [[5]]."] == 1
    assert tokenizer.encoded[REFERENCE] == 1
    assert tokenizer.encoded["Response 7."] == 1


def test_without_a_tokenizer_prompts_are_text() -> None:
    layout = layout_of()
    prompt = Encoder(None).encode(layout)
    assert (prompt.segments, prompt.text, prompt.answer_start) == ((), layout.text(), layout.answer_start)
    assert Encoder(None).labels(("1", "10")).sequences == ()


# -------------------------------------------------------------------------------------------------------- labels

SCALES = [(1, 5), (0, 1), (1, 10), (-2, 2), (0, 100)]


@names
@pytest.mark.parametrize(("low", "high"), SCALES)
def test_label_sequences_are_prefix_free_and_continue_the_prompt(name: str, low: int, high: int) -> None:
    tokenizer = real(name)
    texts = tuple(map(str, range(low, high + 1)))
    labels = Encoder(tokenizer).labels(texts)
    assert labels.texts == texts
    assert not [(a, b) for a, b in permutations(labels.sequences, 2) if b[: len(a)] == a]
    start = tokenizer.control("rating: [[")
    for text, sequence in zip(texts, labels.sequences, strict=True):
        assert tokenizer.decode([*start, *sequence]) in (
            f"rating: [[{text}",
            f"rating: [[{text}]",
            f"rating: [[{text}]]",
        )


def test_digits_that_begin_another_label_are_closed() -> None:
    labels = Encoder(ByteTokenizer()).labels(("1", "2", "10"))
    assert labels.sequences == (tuple(b"1]"), tuple(b"2]"), tuple(b"10]"))


def test_labels_of_one_token_are_left_alone() -> None:
    assert Encoder(ByteTokenizer()).labels(("1", "2", "3")).sequences == ((49,), (50,), (51,))
    tokenizer = byte_level()
    whole = Encoder(tokenizer).labels(tuple(map(str, range(1, 11)))).sequences
    assert [len(sequence) for sequence in whole] == [1] * 10


def test_labels_that_the_tokenizer_does_not_tell_apart_are_refused() -> None:
    with pytest.raises((ValueError, Unsupported), match="apart"):
        Encoder(_Blind()).labels(("1", "2"))


class _Blind(ByteTokenizer):
    """Sees no digits."""

    def control(self, text: str) -> list[int]:
        return super().control(re.sub(r"\d", "?", text))


# ---------------------------------------------------------------------------------------------------------- cuts


def turns(*texts: str) -> tuple[Message, ...]:
    """A conversation, ending with a turn by the user."""
    roles = ["user", "assistant"] if len(texts) % 2 else ["assistant", "user"]
    return tuple(Message.of(roles[index % 2], text) for index, text in enumerate(texts))


def parts(*texts: str) -> Response:
    return Response((Message("assistant", tuple(map(Text, texts))),))


def cut(layout: Layout, excess: int, from_start: bool) -> Encoded | None:
    section = layout.conversation if from_start else layout.response
    return Encoder(ByteTokenizer()).encode_cut(layout, section, excess, from_start)


def read(encoded: Encoded) -> str:
    return ByteTokenizer().decode([token for segment in encoded.prompt.segments for token in segment])


def test_the_conversation_loses_its_start() -> None:
    layout = prompts.single(task_of("math"), turns("abcdefghij" * 10), FIRST, None)
    found = cut(layout, 30, True)
    assert found
    assert found.cut_tokens == 30 + NOTE
    assert f"[BEGIN user 1]\n{CUT_NOTE}{('abcdefghij' * 10)[30 + NOTE :]}\n[END user 1]\n" in read(found)


@pytest.mark.parametrize("split_tail", [False, True])
@pytest.mark.parametrize("paper", [False, True])
def test_the_response_loses_its_end(paper: bool, split_tail: bool) -> None:
    layout = layout_of("abcdefghij" * 10, split_tail, paper)
    whole = Encoder(ByteTokenizer()).encode(layout)
    found = cut(layout, 30, False)
    assert found
    assert len(found.prompt) == len(whole) - 30
    assert found.cut_tokens == 30 + NOTE
    kept = ("abcdefghij" * 10)[: -30 - NOTE]
    shown = read(found)
    assert f"[BEGIN response 1]\n{kept}{CUT_NOTE}\n[END response 1]\n" in shown
    assert shown.endswith(layout.answer_start)
    assert shown.replace(kept + CUT_NOTE, "abcdefghij" * 10) == read(Encoded(whole))


def test_whole_messages_go_before_others_are_touched() -> None:
    layout = prompts.single(task_of("math"), turns("a" * 40, "#" * 40, "c" * 40), FIRST, None)
    found = cut(layout, 40, True)
    assert found
    shown = read(found)
    assert f"\n{CUT_NOTE}\n[END user 1]" in shown
    assert "aaa" not in shown
    assert "c" * 40 in shown
    assert shown.count("#") == 40 - 2 * NOTE
    assert found.cut_tokens == 40 + 2 * NOTE


@given(
    st.lists(st.text("abc", max_size=60), min_size=1, max_size=6),
    st.integers(min_value=1, max_value=150),
    st.booleans(),
)
def test_a_cut_is_deep_enough_counted_and_keeps_every_mark(texts: list[str], excess: int, from_start: bool) -> None:
    messages = turns(*texts) if from_start else MESSAGES
    response = FIRST if from_start else parts(*texts)
    layout = prompts.single(task_of("math"), messages, response, None)
    encoder = Encoder(ByteTokenizer())
    whole = encoder.encode(layout)
    section = layout.conversation if from_start else layout.response
    found = encoder.encode_cut(layout, section, excess, from_start)
    if found is None:
        return
    assert len(found.prompt) <= len(whole) - excess
    rest = [index for index in range(len(whole.segments)) if index != section]
    assert [found.prompt.segments[i] for i in rest] == [whole.segments[i] for i in rest]
    static = [piece.text for piece in layout.sections[section] if not piece.data]
    pattern = "(.*)".join(re.escape(text) for text in _joined(layout, section, static))
    shown = ByteTokenizer().decode(found.prompt.segments[section])
    match = re.match(pattern, shown, re.DOTALL)
    assert match
    kept = [text.replace(CUT_NOTE, "") for text in match.groups()]
    assert sum(map(len, texts)) - sum(map(len, kept)) == found.cut_tokens
    joined, remaining = "".join(texts), "".join(kept)
    assert joined.endswith(remaining) if from_start else joined.startswith(remaining)


def _joined(layout: Layout, section: int, static: list[str]) -> list[str]:
    """Static texts between data; those that stand side by side as one."""
    runs = [""]
    for piece in layout.sections[section]:
        if piece.data:
            runs.append("")
        else:
            runs[-1] += piece.text
    assert "".join(runs) == "".join(static)
    return runs


def test_a_section_that_has_not_enough_is_not_cut() -> None:
    layout = prompts.single(task_of("math"), turns("short"), FIRST, None)
    assert cut(layout, 1, True) is None
    assert cut(layout, 10_000, True) is None
    assert cut(layout_of("abc"), 1, False) is None


def test_a_turn_is_never_cut_away_whole() -> None:
    layout = prompts.single(task_of("math"), turns("a" * 100), FIRST, None)
    assert cut(layout, 99 - NOTE, True) is not None
    assert cut(layout, 100 - NOTE, True) is None


def test_a_short_last_turn_is_something_left_to_judge() -> None:
    """The long first turn goes, the question stays: that the question is shorter than the note is no obstacle."""
    layout = prompts.single(task_of("math"), turns("ok", "a" * 200, "Why?"), FIRST, None)
    found = cut(layout, 150, True)
    assert found
    layout = prompts.single(task_of("math"), (Message.of("system", "a" * 200), Message.of("user", "Why?")), FIRST, None)
    found = cut(layout, 200 - NOTE, True)
    assert found
    assert "Why?" in read(found)


def test_short_turns_do_not_grow_by_being_cut() -> None:
    layout = prompts.single(task_of("math"), turns(*["hi"] * 10, "a" * 400), FIRST, None)
    found = cut(layout, 50, True)
    assert found
    assert read(found).count(CUT_NOTE) <= 1
    assert found.cut_tokens <= 50 + 2 * NOTE


@names
def test_real_tokenizers_lose_whole_tokens(name: str) -> None:
    tokenizer = real(name)
    encoder = Encoder(tokenizer)
    text = "the response rates it 10 of 10, which is 本当 good; " * 20
    layout = layout_of(text)
    whole = encoder.encode(layout)
    found = encoder.encode_cut(layout, layout.response, 40, False)
    assert found
    note = tokenizer.control(CUT_NOTE)
    assert len(found.prompt) == len(whole) - 40
    assert found.cut_tokens == 40 + len(note)
    ids = tokenizer.data(text)
    kept = ids[: len(ids) - found.cut_tokens] + note
    segment = found.prompt.segments[layout.response]
    assert any(list(segment[i : i + len(kept)]) == kept for i in range(len(segment)))


def test_a_custom_criterion_is_not_what_gets_cut() -> None:
    layout = prompts.single(custom_task(rubric()), turns("x" * 80), Response.of("y" * 80), None, split_tail=True)
    question = prompts.criterion_question(layout, "", "z" * 80, True)
    found = Encoder(ByteTokenizer()).encode_cut(question, question.response, 20, False)
    assert found
    assert "z" * 80 in read(found)
    assert "x" * 80 in read(found)
