"""The real server as a process of its own, around the real judge on an engine that likes vowels and computes nothing:
equal responses get equal scores, and a test knows which. With VOWEL_JUDGE_DIES_AT=N in the environment it is gone, as
by SIGKILL, while it rates its response number N."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
from collections.abc import Sequence

from tests.trainers.vowels import UNJUDGED, liking
from themis_judge.engines.base import (
    NO_DEADLINE,
    Deadline,
    EngineInfo,
    Generation,
    Labels,
    LabelScores,
    Likelihood,
    Prompt,
    Sampling,
    Unsupported,
)
from themis_judge.judge import Judge
from themis_sidecar.__main__ import serve
from themis_sidecar.config import read_command_line
from themis_sidecar.observe.telemetry import open_telemetry

RESPONSE = re.compile(r"\[BEGIN (response(?: [AB])?) (\d+)\]\n(.*?)\n\[END \1 \2\]", re.DOTALL)
IMPOSSIBLE = -100.0


class VowelEngine:
    """Implements `Engine` on texts. Of two responses it prefers the one that it likes better; of kinds of task, the
    first."""

    info = EngineInfo("vowels", "vowels", context_tokens=100_000, weights_digest="aeiou", dtype="none")
    tokenizer = None
    failure: str | None = None

    def __init__(self, dies_at: int) -> None:
        self._left = dies_at

    async def load(self) -> None: ...

    async def unload(self) -> None: ...

    async def label_logprobs(self, prompt: Prompt, labels: Labels, deadline: Deadline = NO_DEADLINE) -> LabelScores:
        responses = [text for _, _, text in RESPONSE.findall(prompt.text)]
        self._left -= bool(responses)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if any(UNJUDGED in response for response in responses):
            return LabelScores((IMPOSSIBLE,) * len(labels.texts))
        likings = [liking(response) for response in responses]
        match likings:
            case [one]:  # both ends of the scale, so that the expected rating is what is liked
                chances = {labels.texts[0]: 1 - one, labels.texts[-1]: one}
            case [first, second]:
                chances = {"A": (1 + first - second) / 2, "B": (1 + second - first) / 2}
            case _:
                chances = {labels.texts[0]: 1.0}
        return LabelScores(tuple(_log(chances.get(text, 0.0)) for text in labels.texts))

    async def generate(self, prompt: Prompt, sampling: Sampling, deadline: Deadline = NO_DEADLINE) -> Generation:
        raise Unsupported("writes nothing")

    async def loglikelihood(
        self, prompt: Prompt, continuation: Sequence[int], deadline: Deadline = NO_DEADLINE
    ) -> Likelihood:
        raise Unsupported("weighs nothing")


def _log(chance: float) -> float:
    return math.log(chance) if chance > 0 else IMPOSSIBLE


def main() -> None:
    launch = read_command_line(sys.argv[1:])
    with open_telemetry(launch.config.tracing, "1.2.3") as telemetry:
        serve(Judge(VowelEngine(int(os.environ.get("VOWEL_JUDGE_DIES_AT", "-1")))), launch, telemetry)


if __name__ == "__main__":
    main()
