"""An OpenAI-compatible endpoint that plays all models of the pipeline, by what it is asked."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.unit.pipeline.llm_endpoint import Behaviour, Misbehaving, Reply, Silence, answer, refusal
from themis_pipeline.llm.calls import request_digest

Script = Callable[[str, str, int], "Behaviour | None"]
"""By the prompt, the request's digest, and how often this very request came before; None: it is answered well."""

EVALUATION = "Overall rating (1 to 5): [[4]]\nStrengths:\n- Right. {1} [[5]]\nShortcomings:\n- Dry. {0} [[3]]\n"
TIE = "Better response: [[C]]"
HTML = Reply(b"<html>Welcome</html>", headers={"Content-Type": "text/html"})


def well(_prompt: str, _digest: str, _before: int) -> None:
    return None


class ScriptedEndpoint(Misbehaving):
    """Every request is kept by its digest, as the pipeline's journal knows it. endpoints: names by their models."""

    def __init__(self, endpoints: Mapping[str, str], script: Script = well) -> None:
        super().__init__(())
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.script = script
        self._endpoints = endpoints

    def next(self, headers: Mapping[str, str], body: dict[str, Any]) -> Behaviour:
        digest = request_digest(self._endpoints[body["model"]], body)
        prompt = "\n".join(message["content"] for message in body["messages"])
        with self._lock:
            before = self.asked[digest]
            self.asked[digest] += 1
        trouble = self.script(prompt, digest, before)
        if trouble is not None:
            return trouble
        with self._lock:
            self.answered[digest] += 1
        return answer(_text(prompt, hashlib.sha256(prompt.encode()).hexdigest()[:12]))


def _text(prompt: str, mark: str) -> str:
    """What the prompt asks for, in its form."""
    wanted = re.findall(r"^=== (Instruction \d) ===$", prompt, re.MULTILINE)
    if wanted:
        return "\n".join(
            f"=== {one} ===\nWhy do otters of the kind {mark} like the number {one[-1]}?" for one in wanted
        )
    if prompt.startswith("You are an experienced writer of tests."):
        return f"=== Question ===\nHow many otters are {mark} and two more?\n=== Answer ===\nThere are 17 of them."
    if "Response B:" in prompt:
        return TIE
    if prompt.startswith("You are a strict and fair judge"):
        return EVALUATION
    return f"An answer of the kind {mark}, which names 41 otters and is always right."


def troubled(prompt: str, digest: str, before: int) -> Behaviour | None:
    """One request in six meets a trouble when it first comes; what is asked about some texts meets it always."""
    if prompt.startswith("You write instructions"):
        if "always-garbage" in prompt:
            return HTML
        if "unreadable" in prompt:
            return answer("I would rather not.")
    if before == 0:
        return _TROUBLES.get(int(digest[:4], 16) % 24)
    return None


_TROUBLES: Mapping[int, Behaviour] = {
    0: refusal(429, "rate_limit_exceeded", Retry_After="1"),
    1: refusal(500, "server_error"),
    2: HTML,
    3: Silence(),
}
