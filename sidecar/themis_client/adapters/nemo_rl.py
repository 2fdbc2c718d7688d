"""NeMo-RL: an environment of one turn.

    from themis_client.adapters import nemo_rl; nemo_rl.register()     # in the training script

    env:
      themis:
        template: chatml             # see themis_client.adapters.templated
        reference: ground_truth      # of a sample's extra_env_info; may be left out
        reward: {target: "judge:50051"}
    data: {train: {env_name: themis}}

`reward` has the fields of RewardSettings, as themis_client.adapters.reading reads them. NeMo-RL's data processors put
the templated prompt into the messages, so that the template has to be named; "plain" where a processor leaves the
messages as they are. A sample without a score: the call raises, which stops the run, or the reward is the number that
`on_failure` names. The observation is a constant: NeMo-RL appends it to the sequence that it trains on.

Read from NeMo-RL 0.7.0. Tests call it on stand-ins for Ray and for NeMo-RL's classes; 0.7.0's own create_env was run
with it in a Ray actor by hand, a training was not.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn
from nemo_rl.environments.utils import register_env

from themis_chat.templates import Prompt, Template, Unreadable
from themis_client.adapters.reading import read_settings
from themis_client.adapters.reward import Outcome
from themis_client.adapters.rewarder import Read, Rewarder
from themis_client.adapters.sample import Sample, reference_of, sample
from themis_client.adapters.settings import Thinking
from themis_client.adapters.templated import PLAIN, opened, template_of, turns
from themis_client.adapters.unmasked import Trainer, read, settled
from themis_client.errors import InvalidItem

TRAINER = Trainer("NeMo-RL", cut=False, length=False, groups=True)
NAME = "themis"
OBSERVATION = {"role": "environment", "content": "Environment: judged"}


class Environment(EnvironmentInterface):  # type: ignore[misc]
    """What the actor runs. config: as above. Raises ValueError for settings that are wrong."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        unknown = [name for name in config if name not in ("template", "reference", "reward")]
        if unknown or "template" not in config:
            raise ValueError(f"env.{NAME}: template is needed, reference and reward are known, not {unknown}")
        self._template = None if config["template"] == PLAIN else template_of(config["template"], "template")
        self._reference = config.get("reference")
        self._rewarder = Rewarder(TRAINER.fit(read_settings(config.get("reward", {}))))
        self._logger = logging.getLogger(__name__)

    def step(
        self,
        message_log_batch: Sequence[Sequence[Mapping[str, Any]]],
        metadata: Sequence[Mapping[str, Any] | None],
        return_extracted_answer: bool = False,
    ) -> Any:
        """An EnvironmentReturn whose rewards are a float32 tensor on the CPU, one number per conversation. Raises
        ThemisError."""
        rows = zip(message_log_batch, metadata, strict=True)
        batch = [read(functools.partial(self._sample, *row)) for row in rows]
        found = self._outcomes(batch) if batch else []
        rewards = settled(self._rewarder, found)
        count = len(rewards)
        return EnvironmentReturn(
            observations=[dict(OBSERVATION) for _ in rewards],
            metadata=list(metadata),
            next_stop_strings=[None] * count,
            rewards=torch.tensor(rewards, dtype=torch.float32),
            terminateds=torch.ones(count, dtype=torch.bool),
            answers=[log[-1]["content"] for log in message_log_batch] if return_extracted_answer else None,
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is. NeMo-RL asks for this method and never calls it: the figures are in the log."""
        return batch, {}

    def shutdown(self) -> None:
        """Nothing to give back: the client ends with the actor's process."""

    def _outcomes(self, batch: Sequence[Read]) -> list[Outcome]:
        found = self._rewarder.outcomes(batch)
        told = self._rewarder.metrics(found)
        # A fallback looks like any other reward in NeMo-RL's own figures.
        amiss = told["failed_share"] > 0 or told["named_share"] > 0
        self._logger.log(logging.WARNING if amiss else logging.INFO, "%s", _line(len(found), told))
        return found

    def _sample(self, log: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any] | None) -> Sample:
        *asked, reply = log
        if reply["role"] != "assistant":
            raise InvalidItem("messages", "the policy's reply has to be the last one")
        thinking = self._rewarder.settings.thinking
        prompt = [{"role": turn["role"], "content": turn["content"]} for turn in asked]
        if self._template is not None:
            prompt, thinking = _apart(self._template, prompt, thinking)
        label = None if self._reference is None or metadata is None else metadata.get(self._reference)
        return sample(prompt, str(reply["content"]), thinking, reference=reference_of(label))


MAX_CONCURRENCY = 512
"""Asynchronous rollouts make a step of each sample, and a step waits for the judge, which batches what meets there."""

ThemisEnvironment = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=MAX_CONCURRENCY)(Environment)
"""The actor. Scoring has no state, so that one which died is made anew and its call made again."""


def register() -> None:
    """Makes the environment known to NeMo-RL under the name "themis", in NeMo-RL's own Python environment."""
    actor = f"{__name__}.ThemisEnvironment"
    ACTOR_ENVIRONMENT_REGISTRY[actor] = PY_EXECUTABLES.SYSTEM
    register_env(NAME, actor)


def _line(samples: int, told: Mapping[str, float]) -> str:
    """A step as JSON, which has no NaN."""
    figures = {name: None if math.isnan(value) else value for name, value in told.items()}
    return json.dumps({"event": "themis_step", "samples": samples, **figures})


def _apart(
    template: Template, messages: Sequence[dict[str, Any]], thinking: Thinking | None
) -> tuple[list[dict[str, Any]], Thinking | None]:
    """The messages that the template was applied to, from the pieces of text that NeMo-RL keeps in place of them. Some
    processors leave the system prompt as it was: it stands before the pieces and can't be one of them."""
    system: list[dict[str, Any]] = []
    try:
        prompt = _joined(template, messages)
    except Unreadable:
        if len(messages) < 2 or messages[0]["role"] != "system":
            raise
        system, prompt = [messages[0]], _joined(template, messages[1:])
    return [*system, *turns(prompt)], opened(thinking, prompt)


def _joined(template: Template, messages: Sequence[dict[str, Any]]) -> Prompt:
    return template.prompt("".join(message["content"] for message in messages))
