"""Short runs of TRL's trainers with the tiny policy: seconds each, and long enough to move what the judge likes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.trainers.policies import UNSAID, conversations, load_policy, write_policy
from tests.trainers.vowels import liking

RewardFunction = Callable[..., list[float | None]]

SEEDS = (0, 1, 2)
# What a policy's liking must have gained over a control's. Policies that learn gain 0.4 and more; those that don't were
# seen to drift apart by as much as 0.3, though never on three seeds.
CLEARLY = 0.25
RESPONSE_TOKENS = 12
PROMPTS = 16


@dataclass(frozen=True)
class Run:
    """Where a run lies, and the seed of its policy and its data's order."""

    folder: Path
    seed: int
    steps: int = 18

    def policy(self) -> tuple[Any, Any]:
        """Model and tokenizer as they are before it."""
        folder = self.folder / "policy"
        if not folder.exists():
            write_policy(folder, self.seed)
        return load_policy(folder)

    def settings(self, learning_rate: float) -> dict[str, Any]:
        """What every trainer is told."""
        return {
            "output_dir": str(self.folder / "out"),
            "seed": self.seed,
            "learning_rate": learning_rate,
            "lr_scheduler_type": "constant",
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            "logging_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
        }


def grpo(run: Run, rewards: RewardFunction | Sequence[RewardFunction], **settings: Any) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    return _grouped(run, rewards, GRPOTrainer, GRPOConfig, settings)


def rloo(run: Run, rewards: RewardFunction | Sequence[RewardFunction], **settings: Any) -> Any:
    from trl import RLOOConfig, RLOOTrainer

    return _grouped(run, rewards, RLOOTrainer, RLOOConfig, settings)


def _grouped(run: Run, rewards: Any, trainer: Any, config: Any, settings: dict[str, Any]) -> Any:
    """Four prompts a step with eight responses each."""
    model, tokenizer = run.policy()
    defaults = {
        **run.settings(learning_rate=1e-2),
        "max_steps": run.steps,
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "max_completion_length": RESPONSE_TOKENS,
        "beta": 0.0,
        "generation_kwargs": said(tokenizer),
    }
    return trainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=rewards,
        args=config(**{**defaults, **settings}),
        train_dataset=conversations(PROMPTS),
    )


def online_dpo(run: Run, rewards: RewardFunction, **settings: Any) -> Any:
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    model, tokenizer = run.policy()
    defaults = {
        **run.settings(learning_rate=1e-2),
        "max_steps": run.steps,
        "per_device_train_batch_size": PROMPTS,
        "max_new_tokens": RESPONSE_TOKENS,
        "beta": 0.1,
        "generation_kwargs": said(tokenizer),
    }
    return OnlineDPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=rewards,
        args=OnlineDPOConfig(**{**defaults, **settings}),
        train_dataset=conversations(PROMPTS),
    )


def ppo(run: Run, reward_model: torch.nn.Module, **settings: Any) -> Any:
    from transformers import AutoModelForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    model, tokenizer = run.policy()
    value = AutoModelForSequenceClassification.from_pretrained(run.folder / "policy", num_labels=1)
    defaults = {
        **run.settings(learning_rate=1e-2),
        "total_episodes": 32 * run.steps,
        "per_device_train_batch_size": 32,
        "num_mini_batches": 1,
        "num_ppo_epochs": 2,
        "num_sample_generations": 0,
        "response_length": RESPONSE_TOKENS,
        "kl_coef": 0.0,
    }
    return PPOTrainer(
        args=PPOConfig(**{**defaults, **settings}),
        processing_class=tokenizer,
        model=model,
        ref_model=None,
        reward_model=reward_model,
        value_model=value,
        train_dataset=conversations(4 * PROMPTS).map(
            lambda row: {"input_ids": tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, return_dict=False)},
            remove_columns=["prompt"],
        ),
    )  # fmt: skip


def dpo(run: Run, pairs: Any, **settings: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    model, tokenizer = run.policy()
    defaults = {
        **run.settings(learning_rate=5e-3),
        "max_steps": run.steps,
        "per_device_train_batch_size": 16,
        "beta": 0.1,
    }
    return DPOTrainer(
        model=model, processing_class=tokenizer, args=DPOConfig(**{**defaults, **settings}), train_dataset=pairs
    )


def said(tokenizer: Any) -> dict[str, Any]:
    """Keeps responses from being empty: TRL puts generation settings of its own in the place of the model's."""
    return {"suppress_tokens": tokenizer.convert_tokens_to_ids(list(UNSAID)), "min_new_tokens": 1}


def shuffled(rewards: RewardFunction, seed: int) -> RewardFunction:
    """The control: the same rewards, each for some response of the batch."""
    order = random.Random(seed)

    def control(**batch: Any) -> list[float | None]:
        values = rewards(**batch)
        order.shuffle(values)
        return values

    return control


class ShuffledModel(torch.nn.Module):
    """The same for PPO, around a reward model."""

    base_model_prefix = "judge"

    def __init__(self, model: Any, seed: int) -> None:
        super().__init__()
        self.judge = model.judge
        self._order = torch.Generator().manual_seed(seed)

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[torch.randperm(len(hidden), generator=self._order)]


def respond(model: Any, tokenizer: Any, seed: int, count: int = 4) -> list[tuple[list[dict[str, str]], str]]:
    """`count` responses of the policy to each prompt, with the conversations that they answer."""
    asked = [row["prompt"] for row in conversations(PROMPTS) for _ in range(count)]
    encoded = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        ids = model.eval().generate(
            **encoded, do_sample=True, max_new_tokens=RESPONSE_TOKENS, eos_token_id=tokenizer.eos_token_id,
            **said(tokenizer),
        )  # fmt: skip
    texts = tokenizer.batch_decode(ids[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return list(zip(asked, texts, strict=True))


def liked(model: Any, tokenizer: Any) -> float:
    """How much the judge likes the policy's responses, on average."""
    scores = [liking(text) for _, text in respond(model, tokenizer, seed=0)]
    return sum(scores) / len(scores)
