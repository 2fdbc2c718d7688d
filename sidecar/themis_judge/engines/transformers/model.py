"""A causal language model of transformers, loaded for judging: hidden states of trees, and exact logits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as progress_bars

from themis_judge.engines.base import EngineUnavailable
from themis_judge.engines.transformers.gguf import dequantised, file_digest
from themis_judge.engines.transformers.tree import IMPLEMENTATION, Buffer, Node, Pass, plan_nodes, plan_steps

log = logging.getLogger(__name__)

_VOCABULARY_CHUNK = 16_384
_PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.06, torch.float16: 0.02}  # of the largest logit


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model's folder as it lies on this machine."""

    folder: Path
    name: str
    weights_digest: str


def locate(model: str) -> Loaded:
    """A local folder, a GGUF file (dequantised once into the cache) or a hub name (fetched by huggingface_hub).

    Raises EngineUnavailable, saying what is missing.
    """
    path = Path(model).expanduser()
    name = path.stem if path.suffix == ".gguf" else path.name
    if path.suffix == ".gguf":
        if not path.is_file():
            raise EngineUnavailable(f"engine.model: no such file: {path}")
        path = dequantised(path)
    elif not path.is_dir():
        path = _fetched(model)
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise EngineUnavailable(f"engine.model: {path} holds no safetensors; other formats are not loaded")
    return Loaded(path, name, file_digest(*weights))


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise EngineUnavailable(
            f"engine.model: {name} is neither a folder, a GGUF file nor a model that the hub gives: {error}"
        ) from error


class Model:
    """Weights, tokenizer and the two ways to run them: trees of segments, or prompt by prompt where a model's
    attention can't be replaced."""

    network: Any  # transformers' own types say little about what a causal model offers

    def __init__(self, loaded: Loaded, dtype: torch.dtype, device: str) -> None:
        progress_bars.disable_progress_bar()  # whoever loads says so in its own way: a log line, a progress view
        self.tokenizer: Any = AutoTokenizer.from_pretrained(loaded.folder)
        self.network: Any = AutoModelForCausalLM.from_pretrained(loaded.folder, dtype=dtype, use_safetensors=True)
        self.network.to(device).eval()
        self.dtype = dtype
        self.device = device
        text = self.network.config.get_text_config()
        self.context_tokens = int(text.max_position_embeddings)
        self._head: Any = self.network.get_output_embeddings()
        self.vocabulary = int(self._head.weight.shape[0])
        self._softcap = getattr(text, "final_logit_softcapping", None)
        self._logit_scale = getattr(text, "logit_scale", 1.0) / getattr(text, "logits_scaling", 1.0)
        self.shares = self._probe(text)
        if not self.shares:
            log.warning("this model's attention can't be shared between prompts: each is computed alone")
            self.network.set_attn_implementation("sdpa")

    # ------------------------------------------------------------------------------------------- passes

    @torch.inference_mode()
    def nodes(self, nodes: Sequence[Node], kept: set[int]) -> dict[int, torch.Tensor]:
        """Hidden states [n, H] of each node by its id(), parents first; those in `kept` hold keys and values."""
        if not self.shares:
            return {id(node): self._alone(node.tokens())[-len(node.ids) :] for node in nodes}
        plan, rows = plan_nodes(nodes, kept)
        hidden = self._run(plan)
        for node in nodes:
            if id(node) in kept:
                node.held = rows[id(node)].kept
        return {key: hidden[row.start : row.stop] for key, row in rows.items()}

    @torch.inference_mode()
    def steps(self, steps: Sequence[tuple[int, Buffer]]) -> torch.Tensor:
        """Hidden states [n, H] after one more token of each text, whose buffers grow by it."""
        hidden = self._run(plan_steps(steps))
        for _, buffer in steps:
            buffer.length += 1
        return hidden

    @torch.inference_mode()
    def last(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Hidden states [n, H] after whole texts, each computed alone: what `steps` is without sharing."""
        return torch.stack([self._alone(text)[-1] for text in texts])

    def _run(self, plan: Pass) -> torch.Tensor:
        ids = torch.tensor([plan.ids], device=self.device)
        positions = torch.tensor([plan.positions], device=self.device)
        out = self.network.base_model(
            input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False, themis_pass=plan
        )
        hidden: torch.Tensor = out.last_hidden_state[0]
        return hidden

    def _alone(self, ids: list[int]) -> torch.Tensor:
        out = self.network.base_model(input_ids=torch.tensor([ids], device=self.device), use_cache=False)
        hidden: torch.Tensor = out.last_hidden_state[0]
        return hidden

    # ------------------------------------------------------------------------------------------- logits

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [n, V] of hidden states [n, H]: the last product is exact whatever the model's dtype,
        since bfloat16 logits would move a rating by more than all else together."""
        head = self._head
        wide = hidden.float()
        out = torch.cat([linear(wide, part.float()) for part in head.weight.split(_VOCABULARY_CHUNK)], -1)
        return self._finish(out, getattr(head, "bias", None))

    @torch.inference_mode()
    def quick_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same in the model's own dtype: for writing text, not for probabilities."""
        head = self._head
        return self._finish(linear(hidden, head.weight).float(), getattr(head, "bias", None))

    def _finish(self, logits: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if bias is not None:
            logits += bias.float()
        if self._logit_scale != 1.0:
            logits *= self._logit_scale
        if self._softcap:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    # ------------------------------------------------------------------------------------------- what it can do

    def _probe(self, config: Any) -> bool:
        """Whether a tree pass gives what the model gives by itself, tried on a few tokens."""
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        if kinds != {"full_attention"} or window:
            return False
        step = max(1, self.vocabulary // 61)
        tokens = [(index * step) % self.vocabulary for index in range(48)]
        with torch.inference_mode():
            expected = self.network(input_ids=torch.tensor([tokens], device=self.device), use_cache=False)
            wanted = expected.logits[0, -1].float()
            try:
                self.network.set_attn_implementation(IMPLEMENTATION)
                root = Node(tuple(tokens[:20]))
                other, leaf = Node(tuple(tokens[5:15]), root), Node(tuple(tokens[20:]), root)
                found = self.logits(self.nodes_shared([root, other, leaf])[-1:])[0]
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                log.warning("tree attention failed its probe: %s", error)
                return False
        distance = (found - wanted).abs().max() / wanted.abs().max()
        return bool(distance <= _PROBE_TOLERANCE.get(self.dtype, 0.06))

    def nodes_shared(self, nodes: Sequence[Node]) -> torch.Tensor:
        """Hidden states of one tree pass, in row order."""
        return self._run(plan_nodes(nodes, set())[0])
