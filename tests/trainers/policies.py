"""Policies so small that they learn in seconds: a random Llama that speaks letter by letter, in ChatML."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
UNSAID = (PAD, START, " ", "\n")  # what policies never say, so that no response is empty
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Any:
    """A token a character, and ChatML's control tokens: what is decoded is what was encoded."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    signs = [PAD, START, END, *string.ascii_lowercase, " ", "\n", ".", "?"]
    core = Tokenizer(WordLevel({sign: number for number, sign in enumerate(signs)}, unk_token=PAD))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([PAD, START, END])
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, eos_token=END, pad_token=PAD, padding_side="left"
    )
    made.chat_template = CHATML
    return made


def write_policy(folder: Path, seed: int) -> Path:
    """A folder with a model of random weights and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = tokenizer()
    config = LlamaConfig(
        vocab_size=len(reader),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=reader.eos_token_id,
        pad_token_id=reader.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    model.generation_config.suppress_tokens = reader.convert_tokens_to_ids(list(UNSAID))
    model.generation_config.min_new_tokens = 1
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
    return folder


def load_policy(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def conversations(count: int) -> Any:
    """A data set of questions, each a little different, as conversations."""
    from datasets import Dataset

    letters = string.ascii_lowercase
    texts = [f"say {letters[index % 26]} and {letters[index // 26]}" for index in range(count)]
    return Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in texts])
