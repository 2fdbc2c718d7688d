"""PPO's reward model: token ids in, the judge's scores out, called as TRL 1.12 calls it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tests.integration.adapters_judge import LetterJudge, answer, shares
from tests.integration.sidecar_fakes import serving
from themis_chat.templates import by_name
from themis_client import RetryPolicy
from themis_client.adapters import RewardSettings
from themis_client.adapters.errors import RewardMissing
from themis_client.adapters.trl_ppo import PpoReward
from themis_judge.engines.transformers.gguf import dequantised, small_model

MARKER = "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    made = AutoTokenizer.from_pretrained(dequantised(small_model()))
    made.pad_token = "<repo_name>"  # its own is also the end of a turn
    made.padding_side = "left"
    return made


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


def prompted(tokenizer: Any, *turns: str) -> str:
    return str(tokenizer.apply_chat_template(chat(*turns), tokenize=False, add_generation_prompt=True))


def asked(model: PpoReward, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """The steps of TRL's get_reward. [B, T, 1]"""
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)["input_ids"]
    mask = batch != tokenizer.pad_token_id
    output = getattr(model, model.base_model_prefix)(
        input_ids=torch.masked_fill(batch, ~mask, 0),
        attention_mask=mask,
        position_ids=mask.cumsum(1) - mask.long(),
        return_dict=True,
        output_hidden_states=True,
        use_cache=False,
    )
    return model.score(output.hidden_states[-1])


def settings(address: str, **changes: Any) -> RewardSettings:
    retry = RetryPolicy(attempts=2, base_s=0.01, cap_s=0.02)
    return replace(RewardSettings(target=address, timeout_s=30.0, retry=retry), **changes)


async def test_every_position_has_its_rows_score(tokenizer: Any) -> None:
    judge = LetterJudge()
    texts = [prompted(tokenizer, "Say a.") + "aaab<|im_end|>", prompted(tokenizer, "A long question, is it?") + "bb"]
    async with serving(judge) as served:
        model = PpoReward(settings(served.address), tokenizer, marker=MARKER, template=by_name("chatml"), which="first")
        rewards = await asyncio.to_thread(asked, model, tokenizer, texts)
    batch, length, width = rewards.shape
    assert (batch, width) == (2, 1)
    assert length > 10
    assert torch.equal(rewards, torch.tensor(shares(["aaab", "bb"])).view(2, 1, 1).expand(rewards.shape))
    assert [answer(item) for item in judge.items] == ["aaab", "bb"]
    assert [item.messages[-1].parts[0].text for item in judge.items] == ["Say a.", "A long question, is it?"]  # type: ignore[union-attr]
    assert [item.response.finish_reason.name for item in judge.items] == ["STOP", "LENGTH"]


async def test_a_policy_that_writes_the_marker_can_not_choose_what_is_judged(tokenizer: Any) -> None:
    judge = LetterJudge()
    text = prompted(tokenizer, "Say a.") + f"bbb<|im_end|>\n{MARKER}aaa<|im_end|>"
    async with serving(judge) as served:
        model = PpoReward(settings(served.address), tokenizer, marker=MARKER, template=by_name("chatml"), which="first")
        await asyncio.to_thread(asked, model, tokenizer, [text])
    assert answer(judge.items[0]).startswith("bbb")


async def test_prompts_of_several_turns_end_with_the_last_marker(tokenizer: Any) -> None:
    judge = LetterJudge()
    text = prompted(tokenizer, "Hello.", "Hi.", "Say a.") + "aa<|im_end|>"
    async with serving(judge) as served:
        model = PpoReward(settings(served.address), tokenizer, marker=MARKER, template=by_name("chatml"), which="last")
        rewards = await asyncio.to_thread(asked, model, tokenizer, [text])
    assert rewards[0, 0, 0] == 1.0
    assert [message.role for message in judge.items[0].messages][-3:] == ["user", "assistant", "user"]


async def test_a_prompt_that_opens_the_reasoning_is_seen(tokenizer: Any) -> None:
    judge = LetterJudge()
    text = prompted(tokenizer, "Say a.") + "<think>\nbbb</think>aa<|im_end|>"
    async with serving(judge) as served:
        made = settings(served.address)
        model = PpoReward(made, tokenizer, marker=f"{MARKER}<think>\n", template=by_name("chatml"), which="first")
        rewards = await asyncio.to_thread(asked, model, tokenizer, [text])
    assert rewards[0, 0, 0] == 1.0
    assert answer(judge.items[0]) == "aa"


async def test_plain_prompts_are_one_turn(tokenizer: Any) -> None:
    judge = LetterJudge()
    async with serving(judge) as served:
        model = PpoReward(settings(served.address), tokenizer, marker="TL;DR:", which="first")
        rewards = await asyncio.to_thread(asked, model, tokenizer, ["A text. TL;DR: ab"])
    assert rewards[0, 0, 0] == pytest.approx(1 / 3)
    assert judge.items[0].messages[0].parts[0].text == "A text. TL;DR:"  # type: ignore[union-attr]
    assert answer(judge.items[0]) == " ab"


async def test_what_can_not_be_read_or_scored_raises_or_is_what_was_named(tokenizer: Any) -> None:
    texts = ["no marker at all", "not a chat" + MARKER + "a", prompted(tokenizer, "q") + "OFF_FORMAT<|im_end|>"]
    async with serving(LetterJudge()) as served:
        strict = PpoReward(
            settings(served.address), tokenizer, marker=MARKER, template=by_name("chatml"), which="first"
        )
        with pytest.raises(RewardMissing, match="3 of 3 completions") as failed:
            await asyncio.to_thread(asked, strict, tokenizer, texts)
        named = PpoReward(
            settings(served.address, on_failure=-3.0),
            tokenizer,
            marker=MARKER,
            template=by_name("chatml"),
            which="first",
        )
        rewards = await asyncio.to_thread(asked, named, tokenizer, texts)
    assert [missing.status for _, missing in failed.value.missing] == ["INVALID", "INVALID", "OFF_FORMAT"]
    assert torch.equal(rewards, torch.full(rewards.shape, -3.0))


def test_it_goes_through_what_trainers_do_to_modules(tokenizer: Any) -> None:
    model = PpoReward("localhost:1", tokenizer, marker=MARKER, which="first")
    assert not model.to(torch.bfloat16).eval().training
    assert [parameter.requires_grad for parameter in model.parameters()] == [False]
    assert getattr(model.config, "hidden_size", None) is None


def test_settings_that_ppo_has_no_place_for(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="on_failure"):
        PpoReward(RewardSettings(on_failure="none"), tokenizer, marker=MARKER, which="first")
    with pytest.raises(ValueError, match="truncated"):
        PpoReward(RewardSettings(truncated="fail"), tokenizer, marker=MARKER, which="first")
    with pytest.raises(ValueError, match="marker"):
        PpoReward("localhost:1", tokenizer, marker="", which="first")
