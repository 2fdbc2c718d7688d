"""One rank of a GRPO run on two: `python -m tests.trainers.rank ADDRESS FOLDER FAILS`. The rank FAILS (or none, -1) has
a completion in its second step of which the judge makes nothing. What became of the run goes to FOLDER/rank-N.json."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from tests.trainers.watching import Spoilt, Watched
from tests.trainers.without_vllm import hide_vllm
from themis_client.adapters import RewardSettings
from themis_client.adapters.trl import judge_reward
from themis_client.errors import ThemisError

STEPS = 3


def main(address: str, folder: Path, fails: int) -> None:
    hide_vllm()
    torch.set_num_threads(1)
    from tests.trainers import runs

    rank = int(os.environ["RANK"])
    adapter = judge_reward(RewardSettings(address, timeout_s=30, ranks_wait_s=60))
    places = (0,) if rank == fails else ()
    rewards = Watched(Spoilt(adapter, places, calls=range(1, 2)))
    # The ranks' policies are equal; each rank writes its own.
    run = runs.Run(folder / f"rank-{rank}", seed=0, steps=STEPS)
    trainer = runs.grpo(run, rewards, per_device_train_batch_size=16, ddp_backend="gloo")
    error = ""
    try:
        trainer.train()
    except ThemisError as caught:
        error = f"{type(caught).__name__}: {caught}"
    told = {"error": error, "steps": trainer.state.global_step, "values": rewards.values, "texts": rewards.texts}
    (folder / f"rank-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
