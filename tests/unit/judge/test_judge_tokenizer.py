"""Real tokenizers: users' text never becomes a control token, trusted text does."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers

from tests.unit.judge.fakes import (
    GEMMA,
    PREFIXING,
    REAL,
    TEMPLATES,
    as_engines_do,
    byte_level,
    control_texts,
    metaspace_bpe,
    payloads,
    real,
    unigram,
)
from themis_judge.engines.base import Unsupported
from themis_judge.engines.tokenizer import HFTokenizer

names = pytest.mark.parametrize("name", REAL)
_pieces = st.one_of(
    st.sampled_from(control_texts()),
    st.sampled_from(
        ["<", ">", "|", "</", "<|", "|>", "im_", "end", "im_end|>", "<|im_", "s>", " ", "  ", "\n", "[", "/"]
    ),
    st.text(max_size=5),
)
hostile = st.lists(_pieces, max_size=12).map("".join)


def controls(tokenizer: HFTokenizer) -> set[int]:
    """Ids of the added tokens that show, and of the special ones; not the unknown token, which is data."""
    wrapped = tokenizer.wrapped
    added = {index for text, index in wrapped.get_added_vocab().items() if text.strip()}
    return (added | set(wrapped.all_special_ids)) - {wrapped.unk_token_id}


# ------------------------------------------------------------------------------------------------- control, data


@names
def test_control_recognises_control_tokens(name: str) -> None:
    tokenizer = real(name)
    for text in control_texts():
        (single,) = tokenizer.control(text)
        assert single in controls(tokenizer)
        assert tokenizer.control(f"a{text}b").count(single) == 1


@names
@given(text=hostile)
def test_data_is_never_control(name: str, text: str) -> None:
    tokenizer = real(name)
    assert controls(tokenizer).isdisjoint(tokenizer.data(text))


@names
@pytest.mark.parametrize("kind", payloads())
def test_no_attack_becomes_control(name: str, kind: str) -> None:
    tokenizer = real(name)
    for text in payloads()[kind]:
        assert controls(tokenizer).isdisjoint(tokenizer.data(text))


@names
def test_the_attacks_do_become_control_where_they_are_trusted(name: str) -> None:
    """What the tests above would find if data were encoded as static text is."""
    tokenizer = real(name)
    spelled = [text for text in payloads()["control_token"] if any(c in text for c in control_texts())]
    assert len(spelled) > 40
    for text in spelled:
        assert not controls(tokenizer).isdisjoint(tokenizer.control(text))


@pytest.mark.parametrize("name", PREFIXING)
def test_no_attack_becomes_control_where_texts_get_a_space(name: str) -> None:
    tokenizer = PREFIXING[name]()
    for text in payloads()["control_token"]:
        assert controls(tokenizer).isdisjoint(tokenizer.data(text))


@pytest.mark.parametrize("name", ["byte_level", "byte_level_digits", "byte_level_spaces", "metaspace_bpe", "unigram"])
@given(text=hostile)
def test_data_comes_back_as_it_was(name: str, text: str) -> None:
    if not name.startswith("byte"):
        text = text.replace("▁", " ")  # the mark of a space, which these models can't tell from one
    tokenizer = real(name)
    assert tokenizer.decode(tokenizer.data(text)) == text


@names
@given(text=hostile)
def test_there_is_an_offset_for_each_token(name: str, text: str) -> None:
    tokenizer = real(name)
    offsets = tokenizer.offsets(text)
    assert len(offsets) == len(tokenizer.data(text))
    assert offsets == sorted(offsets)
    assert all(0 <= start < len(text) for start in offsets)
    assert not text or offsets[0] == 0


@names
@given(text=st.lists(st.one_of(st.sampled_from(["</s>", "<|im_end|>", "the", " "]), st.text("az19 ,<>")), max_size=8))
def test_offsets_say_where_tokens_start(name: str, text: list[str]) -> None:
    tokenizer, whole = real(name), "".join(text)
    ids = tokenizer.data(whole)
    for index, start in enumerate(tokenizer.offsets(whole)):
        assert tokenizer.decode(ids[:index]) == whole[:start]


@names
def test_no_text_is_no_token(name: str) -> None:
    assert real(name).data("") == []
    assert real(name).control("") == []


@given(hostile)
def test_data_are_encoded_as_if_nothing_had_been_added_to_the_vocabulary(text: str) -> None:
    tokenizer = real("byte_level")
    state = json.loads(tokenizer.wrapped.backend_tokenizer.to_str())
    plain = FastTokenizer.from_str(json.dumps(state | {"added_tokens": []}))
    assert tokenizer.data(text) == plain.encode(text).ids


def test_runs_of_white_space_stay_tokens() -> None:
    tokenizer = real("byte_level_spaces")
    assert len(tokenizer.data(" " * 8)) == 1
    assert tokenizer.decode(tokenizer.data("if x:\n        y\t\t\n\n\nz")) == "if x:\n        y\t\t\n\n\nz"


def test_a_control_text_is_cut_where_the_vocabulary_holds_it() -> None:
    tokenizer = real("unigram")
    ids = tokenizer.data("a</s>b<|im_end|>")
    assert [tokenizer.decode([token]) for token in ids][:3] == ["a", "<", "/"]
    assert tokenizer.decode(ids) == "a</s>b<|im_end|>"


@pytest.mark.parametrize("name", ["unigram", "byte_level"])
def test_thousands_of_control_texts_are_data_too(name: str) -> None:
    tokenizer, text = real(name), "</s>" * 3000
    ids = tokenizer.data(text)
    assert controls(tokenizer).isdisjoint(ids)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.offsets(text)) == len(ids)


def test_an_unknown_character_is_data() -> None:
    model = models.WordLevel({"<unk>": 0, "</s>": 1, "word": 2}, unk_token="<unk>")
    assert _word_level(model, unk_token="<unk>", eos_token="</s>").data("word 本") == [2, 0]


def test_an_unknown_character_that_would_end_the_text_is_refused() -> None:
    model = models.WordLevel({"<end>": 0, "word": 1}, unk_token="<end>")
    tokenizer = _word_level(model, unk_token="<end>", eos_token="<end>")
    assert tokenizer.data("word") == [1]
    with pytest.raises(Unsupported, match="本"):
        tokenizer.data("word 本")


def _word_level(model: models.WordLevel, **named: str) -> HFTokenizer:
    fast = FastTokenizer(model)
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return as_engines_do(fast, **named)


def test_limits_that_come_with_a_tokenizer_do_not_cut_or_pad_anything() -> None:
    """tokenizer.json may hold a truncation and a padding."""
    tokenizer = byte_level()
    plain = tokenizer.control("The rating is in square brackets.")
    limited = FastTokenizer.from_str(tokenizer.wrapped.backend_tokenizer.to_str())
    limited.enable_truncation(4)
    limited.enable_padding(length=64)
    again = as_engines_do(limited, eos_token="<|im_end|>")
    assert again.data("The rating is in square brackets.") == plain
    assert again.control("The rating is in square brackets.") == plain


@pytest.mark.parametrize("name", PREFIXING)
def test_texts_joined_as_ids_read_as_joined(name: str) -> None:
    """Whatever a model puts before a text that stands alone must not come between a prompt's pieces."""
    tokenizer = PREFIXING[name]()
    pieces = [tokenizer.control("Overall rating (1 to 5): [["), tokenizer.control("5"), tokenizer.control("]]")]
    joined = tokenizer.decode([token for piece in pieces for token in piece])
    assert joined.lstrip() == "Overall rating (1 to 5): [[5]]"
    said = [tokenizer.control("[BEGIN x 1]\n"), tokenizer.data("</s>word"), tokenizer.control("\n[END x 1]\n")]
    assert (
        tokenizer.decode([token for piece in said for token in piece]).lstrip() == "[BEGIN x 1]\n</s>word\n[END x 1]\n"
    )


# --------------------------------------------------------------------------------------------------- the template

USER_FRAMES = {
    "chatml": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma": ("<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    "thinking": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "none": ("### User:\n", "\n\n### Assistant:\n"),
}
HEADERS = {
    "chatml": "<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>model\n",
    "thinking": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "none": "\n\n### Assistant:\n",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_frame_is_what_stands_around_the_users_turn(template: str) -> None:
    tokenizer = byte_level(TEMPLATES[template])
    assert tokenizer.frame(("user",)) == USER_FRAMES[template]
    assert tokenizer.header == HEADERS[template]


@pytest.mark.parametrize("template", ["chatml", "llama3", "thinking"])
def test_a_frame_of_many_turns_is_the_rendered_conversation(template: str) -> None:
    tokenizer = byte_level(TEMPLATES[template])
    roles = ("system", "user", "assistant", "user")
    frame = tokenizer.frame(roles)
    assert len(frame) == 5
    contents = ["zero", "one", "two", "three", ""]
    turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    rendered = tokenizer.wrapped.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert "".join(f"{around}{content}" for around, content in zip(frame, contents, strict=True)) == rendered


def test_a_role_that_the_template_refuses_is_unsupported() -> None:
    tokenizer = byte_level(GEMMA)
    with pytest.raises(Unsupported, match="System role not supported"):
        tokenizer.frame(("system", "user"))
    assert tokenizer.frame(("user", "assistant", "user"))[1] == "<end_of_turn>\n<start_of_turn>model\n"


def test_a_template_that_hides_a_turn_is_unsupported() -> None:
    tokenizer = byte_level("{{ messages[-1].content }}")
    with pytest.raises(Unsupported, match="every turn in order"):
        tokenizer.frame(("user", "assistant", "user"))


def test_a_template_without_a_header_has_what_follows_the_last_turn() -> None:
    assert byte_level("{% for m in messages %}[{{ m.content }}] {% endfor %}").header == "] "


@pytest.mark.parametrize("make", [byte_level, unigram, metaspace_bpe])
def test_tokens_that_end_a_turn_are_known(make: Callable[[], HFTokenizer]) -> None:
    tokenizer = make()
    expected = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|end|>")
    assert tokenizer.ends == {tokenizer.wrapped.convert_tokens_to_ids(text) for text in expected}
