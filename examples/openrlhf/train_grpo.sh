#!/usr/bin/env bash
# GRPO with OpenRLHF, rewards from a judge over gRPC. For a Ray cluster with 8 GPUs on one node beside those of the
# judge. Not run by this project's tests; written for the options of OpenRLHF 0.11.0. docs/trainers.md says what to
# expect.
#
#   JUDGE=judge-0:50051,judge-1:50051 examples/openrlhf/train_grpo.sh
#
# themis-sidecar has to be installed where OpenRLHF's workers run: pip install themis-sidecar (grpcio and protobuf).
set -euo pipefail

: "${JUDGE:?the address of the judge, HOST:PORT, or several of them with commas}"
POLICY=${POLICY:-Qwen/Qwen2.5-7B-Instruct}
TEMPLATE=${TEMPLATE:-chatml} # the policy's chat template, not the judge's; Qwen's is ChatML
DATA=${DATA:-OpenRLHF/prompt-collection-v0.1}
DATA_KEY=${DATA_KEY:-context_messages}
OUT=${OUT:-./exp/openrlhf-grpo}
RUN=${RUN:-openrlhf-grpo-$(date +%Y%m%d-%H%M%S)} # all workers of a run agree on one judge version under this name
RAY=${RAY:-http://127.0.0.1:8265}
PYTHON=${PYTHON:-python3}

# The reward, in JSON: see docs/rewards.md. Whatever is not set has its default, so that a sample without a score stops
# the run. `run` keeps all workers at the judge version that the run began with; "version" would name one.
export THEMIS_REWARD=${THEMIS_REWARD:-'{"target": "'$JUDGE'", "run": "'$RUN'", "timeout_s": 300}'}
export THEMIS_TEMPLATE=$TEMPLATE

# Ray's workers inherit nothing from this shell: what they need goes with the job.
RUNTIME_ENV=$("$PYTHON" -c '
import json, os
names = ("THEMIS_REWARD", "THEMIS_TEMPLATE", "THEMIS_TOKEN_FILE")
print(json.dumps({"env_vars": {name: os.environ[name] for name in names if name in os.environ}}))')
# OpenRLHF takes a reward function by the path of its file.
REWARD_FILE=$("$PYTHON" -c 'import themis_client.adapters.openrlhf as file; print(file.__file__)')

JUDGING=(
    --reward.remote_url "$REWARD_FILE"
    # A column that holds a correct or good answer, which the judge is shown as a reference; leave it out if there is
    # none:
    # --data.label_key answer
)

POLICY_AND_DATA=(
    --actor.model_name_or_path "$POLICY"
    --ckpt.output_dir "$OUT"
    --data.prompt_dataset "$DATA"
    --data.input_key "$DATA_KEY"
    --data.apply_chat_template # the strings that TEMPLATE takes apart again
    --data.max_len 4096
    --rollout.max_new_tokens 2048
)

ALGORITHM=(
    --algo.advantage.estimator group_norm
    --rollout.n_samples_per_prompt 8
    --rollout.batch_size 128
    --train.batch_size 1024
    --train.max_epochs 1
    --algo.kl.init_coef 1e-3
    --algo.kl.use_loss
    --algo.kl.estimator k3
    --actor.adam.lr 5e-7
)

MACHINES=(
    --ref.num_nodes 1
    --ref.num_gpus_per_node 8
    --actor.num_nodes 1
    --actor.num_gpus_per_node 8
    --vllm.num_engines 4
    --vllm.tensor_parallel_size 2
    --vllm.gpu_memory_utilization 0.6
    --vllm.enable_sleep
    --train.colocate_all
    --ds.enable_sleep
    --ds.zero_stage 3
    --ds.param_dtype bf16
    --ds.packing_samples
    --actor.gradient_checkpointing_enable
    --train.dynamic_batch_enable
)

exec ray job submit --address="$RAY" --runtime-env-json="$RUNTIME_ENV" -- \
    python3 -m openrlhf.cli.train_ppo_ray "${JUDGING[@]}" "${POLICY_AND_DATA[@]}" "${ALGORITHM[@]}" "${MACHINES[@]}" "$@"
