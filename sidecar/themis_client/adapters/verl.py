"""verl: a reward manager.

    reward.reward_manager.source=importlib
    reward.reward_manager.name=ThemisRewardManager
    reward.reward_manager.module.path=pkg://themis_client.adapters.verl
    +reward.themis.target=judge:50051

`reward.themis` has the fields of RewardSettings, as themis_client.adapters.reading reads them; without it they come
from the environment of the reward workers. The messages are the data set's own (`raw_prompt`), and its ground truth is
the judge's reference. A sample without a score: the call raises, which stops the run, or the reward is the number that
`on_failure` names; verl has no mask. Responses of more than one turn are not taken apart: such a sample has no score.

Read from verl 0.7.1, 0.8.0 and 0.9.0. Tests call it on a stand-in for verl's base class; 0.9.0's own loader and reward
worker were run with it by hand, a training was not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from themis_client.adapters.reading import read_settings, settings_from_environment
from themis_client.adapters.reward import NoReward
from themis_client.adapters.rewarder import Read, Rewarder
from themis_client.adapters.sample import Sample, reference_of, sample
from themis_client.adapters.settings import RewardSettings
from themis_client.adapters.unmasked import Trainer, described, read, settled
from themis_client.content import FinishReason

TRAINER = Trainer("verl", cut=True, length=True, groups=False)


class ThemisRewardManager(RewardManagerBase):  # type: ignore[misc]
    """One in each of verl's reward workers. Raises ValueError for settings that are wrong."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._rewarder = Rewarder(TRAINER.fit(_settings(config)))
        self._ends = _ends(tokenizer)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of the last sequence of one sample. Raises ThemisError."""
        one = await asyncio.to_thread(self._read, data)
        found = await self._rewarder.outcomes_async([one])
        [reward] = settled(self._rewarder, found)
        told = described(self._rewarder, found[0])
        return {"reward_score": reward, "reward_extra_info": {f"themis/{name}": told[name] for name in told}}

    def _read(self, data: Any) -> Read:
        one = data[-1:][0]
        turns = one.non_tensor_batch.get("__num_turns__")
        if turns is not None and turns > 2:
            return NoReward("UNSUPPORTED", f"a response of {turns - 1} turns")
        length = _length(one, len(data))
        if length is None:
            return NoReward("UNSUPPORTED", f"{len(data)} sequences, and nothing says how long the last response is")
        return read(lambda: self._sample(one, length))

    def _sample(self, one: Any, length: int) -> Sample:
        ids = one.batch["responses"][:length].tolist()
        written = len(ids)
        while written and ids[written - 1] in self._ends:
            written -= 1
        fields = one.non_tensor_batch
        return sample(
            list(fields["raw_prompt"]),
            self.tokenizer.decode(ids[:written], skip_special_tokens=False),
            self._rewarder.settings.thinking,
            completion_tokens=length,
            finish_reason=FinishReason.STOP if written < length else FinishReason.LENGTH,
            reference=reference_of(fields.get("reward_model", {}).get("ground_truth")),
            group=str(fields.get("uid", "")),
        )


def _ends(tokenizer: Any) -> frozenset[int]:
    """Whatever a policy ends its turn with, and what verl filled the batch up with. Many tokenizers name one token as
    the end of a text, and have another one, special but in no role, that ends a turn."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids).union(token for token, entry in added if entry.special)


def _length(one: Any, rows: int) -> int | None:
    """Tokens of the response, if that can be told. verl pads several sequences behind their ends, so that the mask's
    last columns are not the response's, and says how long each is; of a single sequence those columns are."""
    told = one.non_tensor_batch.get("response_len")
    if told is not None:
        return int(told)
    return int(one.batch["attention_mask"][-one.batch["responses"].shape[-1] :].sum()) if rows == 1 else None


def _settings(config: Any) -> RewardSettings:
    named = config.reward.get("themis")
    return settings_from_environment(os.environ) if named is None else read_settings(_plain(named))


def _plain(value: Any) -> Any:
    """OmegaConf's mappings and lists, of which verl's configuration is made, as Python's own."""
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
