"""TRL PPO (`trl.experimental.ppo`, up to TRL 1.12): a reward model that asks the judge.

    reward_model = PpoReward("judge:50051", tokenizer,
        template=by_name("chatml"), marker="<|im_start|>assistant\n", which="first")

PPO hands its reward model token ids and never says where a prompt ends: the marker does. A pad token that is also a
token of the chat vanishes from what PPO passes on, and such prompts can't be read: give the policy a pad token of its
own. The reward stands at every position, since PPO reads it at one that depends on padding.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from themis_chat.templates import Template, Unreadable, plain
from themis_client.adapters.joint import JointRewarder
from themis_client.adapters.reward import NoReward
from themis_client.adapters.rewarder import Read
from themis_client.adapters.sample import Sample
from themis_client.adapters.settings import RewardSettings
from themis_client.adapters.templated import ends_turns, templated
from themis_client.errors import InvalidItem


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    def decode(self, token_ids: Any, **kwargs: Any) -> Any: ...
    def encode(self, text: str, **kwargs: Any) -> Any: ...


class PpoReward(nn.Module):
    """settings: or the address of a judge. tokenizer: the policy's. template: of its chats; None takes prompts as
    plain text. marker: what ends every prompt. which: of several markers the one that does: the "first" where all
    prompts have one turn of the user's, and nothing that a policy writes can move it; the "last" where they have
    several, and a policy that writes the marker is judged by what follows it.

    Raises ValueError for on_failure "none": PPO has no way to leave a reward out.
    """

    base_model_prefix = "judge"

    def __init__(
        self,
        settings: RewardSettings | str,
        tokenizer: Tokenizer,
        *,
        marker: str,
        template: Template | None = None,
        which: Literal["first", "last"],
    ) -> None:
        super().__init__()
        made = RewardSettings(target=settings) if isinstance(settings, str) else settings
        if made.on_failure == "none":
            raise ValueError('on_failure: "none" is nothing that PPO knows; use "raise", or name a number')
        if not marker:
            raise ValueError("marker: is empty; name what every prompt ends with")
        if made.truncated != "judge" and not ends_turns(template or plain()):
            raise ValueError("truncated: this template's responses don't end with a token that tells; use \"judge\"")
        self.config = SimpleNamespace()  # DeepSpeed's preparation looks for sizes in it, and there are none
        self.judge = _Judge(_Reader(made, tokenizer, marker, template or plain(), which))
        # What moves modules about expects at least one parameter.
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)

    def score(self, hidden: Tensor) -> Tensor:
        """[B, T, 1], as it came from `judge`."""
        return hidden


class _Judge(nn.Module):
    """In the place of the reward model's backbone."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__()
        self._reader = reader
        self._joint = JointRewarder(reader.settings, "ppo")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_unused: Any) -> SimpleNamespace:
        """hidden_states[-1] is [B, T, 1]: each row's reward, at each of its positions."""
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids.cpu(), attention_mask.cpu(), strict=True)]
        _, rewards = self._joint.rewards(lambda: [self._reader.sample(row) for row in rows])
        batch, length = input_ids.shape
        values = torch.tensor(rewards, dtype=torch.float32, device=input_ids.device)
        return SimpleNamespace(hidden_states=(values.view(batch, 1, 1).expand(batch, length, 1),))


class _Reader:
    """Token ids back into a prompt and its completion."""

    def __init__(
        self,
        settings: RewardSettings,
        tokenizer: Tokenizer,
        marker: str,
        template: Template,
        which: Literal["first", "last"],
    ) -> None:
        self.settings = settings
        self._tokenizer = tokenizer
        self._marker = marker
        self._template = template
        self._last = which == "last"

    def sample(self, ids: list[int]) -> Read:
        text = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        at = text.rfind(self._marker) if self._last else text.find(self._marker)
        if at < 0:
            return NoReward("INVALID", f"the marker {self._marker!r} is not in the text, so no response can be found")
        at += len(self._marker)
        try:
            return self._read(text[:at], text[at:])
        except (Unreadable, InvalidItem) as error:
            return NoReward("INVALID", str(error))

    def _read(self, prompt: str, completion: str) -> Sample:
        tokens = len(self._tokenizer.encode(completion, add_special_tokens=False))
        read = templated(self._template, self.settings.thinking, prompt, completion)
        return replace(read, completion_tokens=tokens)
