"""verl's reward manager on a stand-in for verl, against a real server."""

from __future__ import annotations

import asyncio
import json
import math
from collections import UserDict, UserList
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers.models import WordLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import AddedToken, PreTrainedTokenizerFast

from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import VERSION, serving
from tests.integration.trainer_stand_ins import VERL, DataProto, importing, objects
from themis_client.adapters.errors import RewardMissing

PAD, EOS, OTHER, TURN, WORD = range(5)
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]


class Tokenizer:
    """A token a character, and special ones: three that have a role, and one that ends turns and has none. An added
    one is a word like any other."""

    all_special_ids = (PAD, EOS, OTHER)
    added_tokens_decoder = {  # noqa: RUF012 - a property of the real one's
        **{token: AddedToken(f"<{token}>", special=True) for token in (PAD, EOS, OTHER, TURN)},
        WORD: AddedToken(f"<{WORD}>", special=False),
    }

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join(f"<{token}>" if token in self.added_tokens_decoder else chr(token) for token in ids)


def data(text: str, ends: list[int] | None = None, padded: int = 2, **fields: Any) -> DataProto:
    """One sample as AgentLoopWorker._compute_score sends it, or as compute_rm_score does, with its padding."""
    ids = [*map(ord, text), *([EOS] if ends is None else ends)]
    told = {"raw_prompt": CHAT, "reward_model": {"ground_truth": "", "style": "rule"}, "__num_turns__": 2} | fields
    return DataProto(
        {
            "prompts": torch.full((1, 4), 7),
            "responses": torch.tensor([[*ids, *[PAD] * padded]]),
            "attention_mask": torch.tensor([[0, 1, 1, 1, *[1] * len(ids), *[0] * padded]]),
        },
        {name: objects(value, 1) for name, value in told.items()},
    )


def sequences(*texts: str) -> DataProto:
    """As AgentLoopWorker._compute_score sends a sample of several sequences from 0.8 on: each as it is, padded behind
    its end to the longest."""
    prompts = [[7] * (3 + 2 * place) for place in range(len(texts))]
    responses = [[*map(ord, text), EOS] for text in texts]
    masks = [[1] * (len(prompt) + len(response)) for prompt, response in zip(prompts, responses, strict=True)]
    told = {"raw_prompt": CHAT, "reward_model": {"ground_truth": "", "style": "rule"}, "__num_turns__": 2}
    lengths = np.array([len(response) for response in responses])
    return DataProto(
        {
            name: pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
            for name, rows in (("prompts", prompts), ("responses", responses), ("attention_mask", masks))
        },
        {name: objects(value, len(texts)) for name, value in told.items()} | {"response_len": lengths},
    )


@pytest.fixture
def adapter() -> Iterator[Any]:
    with importing("verl", VERL) as module:
        yield module


def configured(value: Any) -> Any:
    """As OmegaConf has it: mappings and lists that are not Python's own."""
    if isinstance(value, dict):
        return UserDict({name: configured(one) for name, one in value.items()})
    return UserList(map(configured, value)) if isinstance(value, list) else value


def manager(adapter: Any, address: str | None, tokenizer: Any = None, **settings: Any) -> Any:
    """As load_reward_manager makes it."""
    named = {"target": address, "timeout_s": 30.0, "retry": {"attempts": 2, "base_s": 0.01, "cap_s": 0.02}} | settings
    reward = {"num_workers": 8} | ({} if address is None else {"themis": configured(named)})
    return adapter.ThemisRewardManager(
        config=SimpleNamespace(reward=reward),
        tokenizer=tokenizer or Tokenizer(),
        compute_score=None,
        reward_router_address=None,
        reward_model_tokenizer=None,
    )


async def test_a_sample_gets_its_reward_and_always_the_same_keys(adapter: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        made = manager(adapter, served.address, on_failure=-1.0)
        good = await made.run_single(data("ab", reward_model={"ground_truth": "a"}, uid="g7"))
        bad = await made.run_single(data("OFF_FORMAT"))
    assert good["reward_score"] == 0.5
    assert good["reward_extra_info"] == {
        "themis/score/judge": 0.5,
        "themis/failed_share": 0.0,
        "themis/named_share": 0.0,
        "themis/truncated_share": 0.0,
        "themis/version/judge": VERSION,
        "themis/status": "OK",
    }
    assert bad["reward_score"] == -1.0
    assert list(bad["reward_extra_info"]) == list(good["reward_extra_info"])
    assert bad["reward_extra_info"]["themis/status"] == "OFF_FORMAT"
    assert math.isnan(bad["reward_extra_info"]["themis/score/judge"])
    first = judge.items[0]
    assert [(turn.role, turn.parts[0].text) for turn in first.messages] == [("system", "Be kind."), ("user", "Why?")]  # type: ignore[union-attr]
    assert (answer(first), first.reference, first.group) == ("ab", "a", "g7")
    assert (judge.items[1].reference, judge.items[1].group) == (None, "")


async def test_the_end_of_a_response_is_its_special_tokens_and_its_length_counts_them(adapter: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        length = {"free_tokens": 2, "full_tokens": 6}
        made = manager(adapter, served.address, truncated={"amount": 0.25}, length=length)
        rewards = [
            (await made.run_single(data(*one)))["reward_score"]
            for one in (("a", [EOS]), ("aa", [OTHER, EOS], 0), ("a", []), ("a\x02a", [EOS]), ("a", [TURN], 0))
        ]
        word = (await made.run_single(data("a", [WORD])))["reward_score"]
    assert rewards == pytest.approx([1.0, 1.0 - 0.5, 1.0 - 0.25, 2 / 5 - 0.5, 1.0])
    assert word == 1 / 4 - 0.25
    assert [answer(item) for item in judge.items] == ["a", "aa", "a", "a<2>a", "a", "a<4>"]
    finishes = [item.response.finish_reason.name for item in judge.items]
    assert finishes == ["STOP", "STOP", "LENGTH", "STOP", "STOP", "LENGTH"]


async def test_a_real_tokenizer_tells_the_token_that_ends_a_turn(adapter: Any) -> None:
    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, "a": 3, "b": 4}
    made: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizers.Tokenizer(WordLevel(words, unk_token="<unk>")), pad_token="<pad>", eos_token="<eos>"
    )
    made.add_tokens([AddedToken("<end_of_turn>", special=True), AddedToken("<word>", special=False)])
    turn, word = made.convert_tokens_to_ids(["<end_of_turn>", "<word>"])
    assert turn not in made.all_special_ids
    judge = LetterJudge()
    async with serving(judge) as served:
        manager_of = manager(adapter, served.address, tokenizer=made)
        for ids in ([3, turn], [3, word], [3, 1, turn]):
            await manager_of.run_single(data("", ids))
    assert [answer(item) for item in judge.items] == ["a", "a <word>", "a"]
    assert [item.response.finish_reason.name for item in judge.items] == ["STOP", "LENGTH", "STOP"]


async def test_of_several_sequences_the_last_is_judged(adapter: Any) -> None:
    judge = LetterJudge()
    length = {"free_tokens": 3, "full_tokens": 5}
    async with serving(judge) as served:
        made = manager(adapter, served.address, truncated={"amount": 0.25}, length=length)
        rewards = [
            (await made.run_single(sequences(*texts)))["reward_score"]
            for texts in (("b", "aaa"), ("bbbbbb", "aaa"), ("bbbbbb", "aaa", "aa"))
        ]
    assert rewards == [0.5, 0.5, 1.0]
    assert [answer(item) for item in judge.items] == ["aaa", "aaa", "aa"]
    assert [item.response.finish_reason.name for item in judge.items] == ["STOP"] * 3


async def test_several_sequences_of_unknown_length_have_no_score(adapter: Any) -> None:
    both = sequences("bbbbbb", "aaa")
    del both.non_tensor_batch["response_len"]
    async with serving(LetterJudge()) as served:
        with pytest.raises(RewardMissing, match="UNSUPPORTED: 2 sequences, and nothing says how long"):
            await manager(adapter, served.address).run_single(both)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (data("OFF_FORMAT"), "judge: OFF_FORMAT"),
        (data("a", __num_turns__=4), "UNSUPPORTED: a response of 3 turns"),
        (data("a", raw_prompt=[{"role": "user", "content": [{"type": "audio"}]}]), "INVALID: messages"),
        (data("<think>a"), "NO_ANSWER"),
        (data("a", reward_model={"ground_truth": {"target": ["a"]}}), "INVALID: reference: .*not dict"),
    ],
)
async def test_a_sample_without_a_score_raises(sample: DataProto, reason: str, adapter: Any) -> None:
    async with serving(LetterJudge()) as served:
        with pytest.raises(RewardMissing, match=reason):
            await manager(adapter, served.address).run_single(sample)


async def test_a_server_that_is_away_or_late_gives_no_number(adapter: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        made = manager(adapter, served.address, timeout_s=2.0)
        with pytest.raises(RewardMissing, match="DEADLINE_EXCEEDED"):
            await made.run_single(data("hold"))
        await asyncio.wait_for(judge.until(lambda: judge.cancelled == ["hold"]), 20)
    with pytest.raises(RewardMissing, match="UNAVAILABLE"):
        await made.run_single(data("a"))


async def test_settings_come_from_the_configuration_or_the_environment(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        monkeypatch.setenv("THEMIS_REWARD", json.dumps({"target": served.address, "scale": 2}))
        assert (await manager(adapter, None).run_single(data("ab")))["reward_score"] == 1.0
        assert (await manager(adapter, served.address).run_single(data("ab")))["reward_score"] == 0.5
        parts = [{"name": "x", "rubric": {"criteria": ["It is short."], "scale_min": 1, "scale_max": 3}}]
        made = manager(adapter, served.address, clip=[-0.25, 0.25], parts=parts)
        assert (await made.run_single(data("ab")))["reward_score"] == 0.25
    rubric = judge.items[-1].rubric
    assert rubric is not None
    assert [criterion.text for criterion in rubric.criteria] == ["It is short."]
    with pytest.raises(ValueError, match="retry: an object"):
        manager(adapter, "judge:1", retry=3)
    with pytest.raises(ValueError, match="on_failure: verl"):
        manager(adapter, "judge:1", on_failure="none")
    with pytest.raises(ValueError, match="addres: unknown"):
        manager(adapter, "judge:1", addres="x")


async def test_workers_on_loops_of_their_own_share_the_process(adapter: Any) -> None:
    texts = ["a", "ab", "abb", "b"]
    async with serving(LetterJudge()) as served:

        async def work(text: str) -> Any:
            made = manager(adapter, served.address)
            found = await asyncio.gather(*[made.run_single(data(text)) for _ in range(4)])
            return {one["reward_score"] for one in found}

        def elsewhere(text: str) -> Any:
            return asyncio.run(work(text))

        found = await asyncio.gather(*[asyncio.to_thread(elsewhere, text) for text in texts])
    assert [next(iter(one)) for one in found] == pytest.approx(shares(texts))
    assert [len(one) for one in found] == [1] * 4
