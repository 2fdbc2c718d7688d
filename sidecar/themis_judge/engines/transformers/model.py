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

from themis_judge.digests import file_digest, weights_files
from themis_judge.engines.base import EngineUnavailable
from themis_judge.engines.transformers.gguf import dequantised
from themis_judge.engines.transformers.tree import IMPLEMENTATION, Buffer, Node, Pass, plan_nodes, plan_steps

log = logging.getLogger(__name__)

_VOCABULARY_CHUNK = 16_384
_PROBE_TOKENS = 48
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
    weights = weights_files(path)
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
        # Whoever loads says so in its own way: a log line, a progress view.
        progress_bars.disable_progress_bar()  # type: ignore[no-untyped-call]
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
        own_attention = self.network.config._attn_implementation
        tokens = [(index * max(1, self.vocabulary // 61)) % self.vocabulary for index in range(_PROBE_TOKENS)]
        wanted = self._checked_logits(tokens)
        self.shares = _can_share(text) and self._probe(tokens, wanted)
        if not self.shares:
            log.warning("this model's attention can't be shared between prompts: each is computed alone")
            # Of transformers' own kinds only this one heeds the cap that some models put on attention's logits.
            capped = getattr(text, "attn_logit_softcapping", None)
            self.network.set_attn_implementation("eager" if capped else own_attention)

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

    @torch.inference_mode()
    def _checked_logits(self, tokens: list[int]) -> torch.Tensor:
        """The model's own logits [V] after a few tokens. Refuses a model that does more to them than is known here:
        its probabilities would be wrong."""
        out = self.network(input_ids=torch.tensor([tokens], device=self.device), use_cache=False)
        wanted: torch.Tensor = out.logits[0, -1].float()
        if not self._close(self.logits(self._alone(tokens)[-1:])[0], wanted):
            kind = self.network.config.model_type
            raise EngineUnavailable(f"engine.model: models of type {kind} scale their logits in a way not known here")
        return wanted

    @torch.inference_mode()
    def _probe(self, tokens: list[int], wanted: torch.Tensor) -> bool:
        """Whether a tree pass gives what the model gives by itself, tried on a few tokens."""
        root = Node(tuple(tokens[:20]))
        nodes = [root, Node(tuple(tokens[5:15]), root), Node(tuple(tokens[20:]), root)]
        try:
            self.network.set_attn_implementation(IMPLEMENTATION)
            found = self.logits(self._run(plan_nodes(nodes, set())[0])[-1:])[0]
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            log.warning("tree attention failed its probe: %s", error)
            return False
        return self._close(found, wanted)

    def _close(self, found: torch.Tensor, wanted: torch.Tensor) -> bool:
        distance = (found - wanted).abs().max() / wanted.abs().max()
        return bool(distance <= _PROBE_TOLERANCE[self.dtype])


def _can_share(config: Any) -> bool:
    """Whether a token's keys and values depend on nothing but what stands before it, all of which it sees."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    # These change the rotation of all positions with the length of the text.
    by_length = any(kind in str(getattr(config, "rope_parameters", "")) for kind in ("longrope", "dynamic"))
    return kinds == {"full_attention"} and not window and not by_length
