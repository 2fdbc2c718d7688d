#!/usr/bin/env bash
# GRPO with verl, rewards from a judge over gRPC. For nodes with 8 GPUs each, beside those of the judge. Not run by this
# project's tests; written for the options of verl 0.9.0. docs/trainers.md says what to expect.
#
#   JUDGE=judge-0:50051,judge-1:50051 examples/verl/train_grpo.sh
#
# themis-sidecar has to be installed where verl's reward workers run: pip install themis-sidecar (grpcio and protobuf).
set -euo pipefail

: "${JUDGE:?the address of the judge, HOST:PORT, or several of them with commas}"
POLICY=${POLICY:-Qwen/Qwen3-8B}
TRAIN=${TRAIN:-$HOME/data/gsm8k/train.parquet}
TEST=${TEST:-$HOME/data/gsm8k/test.parquet}
NODES=${NODES:-1}
RUN=${RUN:-verl-grpo-$(date +%Y%m%d-%H%M%S)} # all workers of a run agree on one judge version under this name
PYTHON=${PYTHON:-python3}

JUDGING=(
    reward.reward_manager.source=importlib
    reward.reward_manager.name=ThemisRewardManager
    reward.reward_manager.module.path=pkg://themis_client.adapters.verl
    # The reward: see docs/rewards.md. verl passes its configuration on to the workers, so that nothing needs to be in
    # their environment; the quotes keep commas and colons from Hydra. Whatever is not set has its default, so that a
    # sample without a score stops the run. `run` keeps all workers at the judge version that the run began with;
    # `version` would name one.
    "+reward.themis.target=\"$JUDGE\""
    "+reward.themis.run=\"$RUN\""
    +reward.themis.timeout_s=300
    # Reward workers, spread over the nodes. They wait for the judge and need no GPU.
    reward.num_workers=8
)

DATA=(
    "data.train_files=$TRAIN"
    "data.val_files=$TEST"
    data.train_batch_size=256
    data.max_prompt_length=1024
    data.max_response_length=2048
    data.filter_overlong_prompts=True
    data.truncation=error
)

ALGORITHM=(
    algorithm.adv_estimator=grpo
    algorithm.use_kl_in_reward=False
    "actor_rollout_ref.model.path=$POLICY"
    actor_rollout_ref.model.use_remove_padding=True
    actor_rollout_ref.model.enable_gradient_checkpointing=True
    actor_rollout_ref.actor.optim.lr=1e-6
    actor_rollout_ref.actor.ppo_mini_batch_size=64
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.use_kl_loss=True
    actor_rollout_ref.actor.kl_loss_coef=0.001
    actor_rollout_ref.actor.kl_loss_type=low_var_kl
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n=8
    actor_rollout_ref.rollout.tensor_model_parallel_size=2
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6
    actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True
    actor_rollout_ref.ref.log_prob_use_dynamic_bsz=True
    actor_rollout_ref.ref.fsdp_config.param_offload=True
)

TRAINER=(
    trainer.n_gpus_per_node=8
    "trainer.nnodes=$NODES"
    trainer.total_epochs=1
    trainer.save_freq=50
    trainer.test_freq=10
    'trainer.logger=["console"]'
    trainer.project_name=themis
    "trainer.experiment_name=$RUN"
)

exec "$PYTHON" -m verl.trainer.main_ppo "${JUDGING[@]}" "${DATA[@]}" "${ALGORITHM[@]}" "${TRAINER[@]}" "$@"
