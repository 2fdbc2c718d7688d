"""PPO with TRL up to 1.12, which had it last: the judge in the place of the reward model.

python -m examples.ppo --judge localhost:50051
"""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer

from examples.setting import arguments, on_cpu, policy, questions, show, small_model_folder
from themis_chat.templates import by_name
from themis_client.adapters.trl_ppo import PpoReward

EPISODES = 8  # a step


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments("PPO with the judge as reward model", argv, steps=6)
    model, tokenizer = policy(args.policy)
    model.generation_config.min_new_tokens = 4  # an empty response can't be judged, and would stop the run
    value_model = AutoModelForSequenceClassification.from_pretrained(
        args.policy or small_model_folder(), num_labels=1, dtype="float32"
    )
    chats = tokenizer.apply_chat_template(list(questions()["prompt"]), add_generation_prompt=True)
    trainer = PPOTrainer(
        model=model,
        ref_model=None,
        # PPO hands over tokens, and says nowhere where a prompt ends: the marker does.
        reward_model=PpoReward(
            args.judge, tokenizer, marker="<|im_start|>assistant\n", template=by_name("chatml"), which="first"
        ),
        value_model=value_model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"input_ids": chats["input_ids"]}),
        args=PPOConfig(
            **on_cpu(args),
            total_episodes=EPISODES * args.steps,
            per_device_train_batch_size=EPISODES,
            num_mini_batches=1,
            num_ppo_epochs=2,
            num_sample_generations=0,
            response_length=48,
            stop_token="eos",
        ),
    )
    trainer.train()
    show(trainer, "objective/scores")


if __name__ == "__main__":
    main()
