"""GRPO with TRL: the judge scores each response, and a group is compared with its own mean.

    python -m examples.grpo --judge localhost:50051

RLOO takes the same reward function: put RLOOConfig and RLOOTrainer in the place of GRPO's.
"""

from __future__ import annotations

from collections.abc import Sequence

from trl import GRPOConfig, GRPOTrainer

from examples.setting import arguments, on_cpu, policy, questions, show
from themis_client.adapters.trl import judge_reward


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments("GRPO with the judge's scores as rewards", argv, steps=12)
    model, tokenizer = policy(args.policy)
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=judge_reward(args.judge),
        train_dataset=questions(),
        args=GRPOConfig(
            **on_cpu(args),
            max_steps=args.steps,
            per_device_train_batch_size=8,  # two questions with four responses each
            num_generations=4,
            max_completion_length=48,
            generation_kwargs={"min_new_tokens": 4},  # an empty response can't be judged, and would stop the run
        ),
    )
    trainer.train()
    show(trainer, "reward")


if __name__ == "__main__":
    main()
