"""Online DPO with TRL: of two responses to a question, the one with the higher score is preferred.

python -m examples.online_dpo --judge localhost:50051
"""

from __future__ import annotations

from collections.abc import Sequence

from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from examples.setting import arguments, on_cpu, policy, questions, show
from themis_client.adapters.trl import online_dpo_reward


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments("online DPO with preferences from the judge's scores", argv, steps=12)
    model, tokenizer = policy(args.policy)
    trainer = OnlineDPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=online_dpo_reward(args.judge),
        train_dataset=questions(),
        args=OnlineDPOConfig(
            **on_cpu(args),
            max_steps=args.steps,
            per_device_train_batch_size=4,
            max_new_tokens=48,
            generation_kwargs={"min_new_tokens": 4},  # an empty response can't be judged, and would stop the run
        ),
    )
    trainer.train()
    show(trainer, "objective/scores")


if __name__ == "__main__":
    main()
