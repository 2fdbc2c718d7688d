"""Compares vLLM on a GPU with the transformers engine, runner by runner: for whoever has such a machine.

    python scripts/vllm_parity.py --model MODEL [--device cuda] [--kinds v1 v2 v1-invariant v2-invariant]

NOT RUN SO FAR on a GPU: there was none where this was written. Without one, `--device cpu --kinds v1` tries the script
itself. For each kind it prints how far labels' log-probabilities and an answer's log-likelihood are from the
transformers engine's in float32, and whether a prompt's numbers are the same bits alone and in a batch of others
(which the kinds with `-invariant` promise). It fails where the mean of the former exceeds --tolerance, where texts
differ in length, or where a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from themis_judge.engines.base import Engine, Labels, Prompt
from themis_judge.engines.transformers import TransformersEngine, TransformersSettings
from themis_judge.engines.vllm import VLLMEngine, VLLMSettings
from themis_judge.tokens import Encoder

KINDS = ("v1", "v2", "v1-invariant", "v2-invariant")
REFERENCE = "transformers"
QUESTIONS = [f"What is {n} plus {n * n}? Say how you found it." for n in range(1, 33)]
ANSWER = "It is the sum of both, which I found by adding one to the other, digit by digit."


def engine_of(kind: str, model: str, device: str) -> Engine:
    if kind == REFERENCE:
        return TransformersEngine(TransformersSettings(model, dtype="float32", device=device))
    runner, _, invariant = kind.partition("-")
    settings = VLLMSettings(model, runner=runner, batch_invariant=bool(invariant))
    if device == "cpu":
        settings = replace(settings, cpu_cache_gib=1, enforce_eager=True)
    return VLLMEngine(settings)


async def measure(engine: Engine) -> dict[str, Any]:
    """Labels' and answers' log-probabilities of all prompts at once, and of the first one alone."""
    await engine.load()
    tokenizer = engine.tokenizer
    assert tokenizer is not None
    before, after = (tuple(tokenizer.control(text)) for text in tokenizer.frame(("user",)))
    prompts = [Prompt((before, tuple(tokenizer.data(question)), after)) for question in QUESTIONS]
    labels, answer = Encoder(tokenizer).labels(tuple(map(str, range(1, 11)))), tokenizer.data(ANSWER)
    together = await asyncio.gather(*(_told(engine, prompt, labels, answer) for prompt in prompts))
    alone = await _told(engine, prompts[0], labels, answer)
    await engine.unload()
    return {"together": together, "alone": alone}


async def _told(engine: Engine, prompt: Prompt, labels: Labels, answer: Sequence[int]) -> list[list[float]]:
    scores, likelihood = await asyncio.gather(
        engine.label_logprobs(prompt, labels), engine.loglikelihood(prompt, answer)
    )
    return [list(scores.logprobs or ()), list(likelihood.logprobs)]


def in_a_process(kind: str, model: str, device: str) -> dict[str, Any]:
    """vLLM reads such settings once a process."""
    command = [sys.executable, __file__, "--model", model, "--device", device, "--measure", kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def compare(kind: str, found: dict[str, Any], reference: dict[str, Any], tolerance: float) -> bool:
    """Prints a line; whether all is well."""
    well = True
    for part, name in enumerate(("labels", "answer")):
        pairs = [
            (ours, theirs)
            for mine, right in zip(found["together"], reference["together"], strict=True)
            for ours, theirs in zip(mine[part], right[part], strict=True)
        ]
        apart = [abs(ours - theirs) for ours, theirs in pairs]
        print(f"{kind:14} {name:7} apart by {statistics.fmean(apart):.4f} in the mean, {max(apart):.4f} at most")
        well = well and statistics.fmean(apart) <= tolerance
    same = found["alone"] == found["together"][0]
    print(f"{kind:14} alone and in a batch: {'the same bits' if same else 'not the same bits'}")
    return well and (same or not kind.endswith("-invariant"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--tolerance", type=float, default=0.05, help="nats, in the mean")
    parser.add_argument("--measure", choices=(REFERENCE, *KINDS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = str(Path(arguments.model).expanduser()) if Path(arguments.model).exists() else arguments.model
    if arguments.measure:
        print(json.dumps(asyncio.run(measure(engine_of(arguments.measure, model, arguments.device)))))
        return
    reference = in_a_process(REFERENCE, model, arguments.device)
    well = [
        compare(kind, in_a_process(kind, model, arguments.device), reference, arguments.tolerance)
        for kind in arguments.kinds
    ]
    if not all(well):
        raise SystemExit("not all is well")


if __name__ == "__main__":
    main()
