"""The server's own process with its HTTP port as trainers find it, and the real small model."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from transformers import AutoTokenizer

from tests.integration.compat_serving import PROMPT, error
from tests.integration.sidecar_running import events, running
from themis_client import Client, Item, Score

REPLY = "It is four."
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is two plus two?"}]


@dataclass(frozen=True)
class Served:
    grpc: str
    http: str


@pytest.fixture(scope="module")
def served(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("compat")
    flags = ["--engine.model", str(small_model), "--judge.label_mass_threshold", "0", "--http.port", "0"]
    flags += ["--http.compat.enabled", "true", "--http.compat.template", "chatml"]
    flags += ["--http.compat.rewards_scale.low", "-1", "--http.compat.scenario", "math"]
    with running(folder, *flags, module="themis_sidecar") as process:
        yield Served(process.address, f"http://{events(process.log, 'http')[0]['address']}")


def test_every_format_gives_the_score_that_grpc_gives(served: Served, small_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    prompt = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(
        [*QUESTION, {"role": "assistant", "content": REPLY}], tokenize=False, add_generation_prompt=False
    )
    assert isinstance(prompt, str)
    ended = REPLY + tokenizer.eos_token
    with httpx.Client(base_url=served.http, timeout=120.0) as http:
        shard = http.post("/get_reward", json={"query": [prompt + ended], "prompts": [prompt], "labels": [""]}).json()
        number = http.post("/rm", json={"prompt": QUESTION, "response": ended, "label": None})
        classified = http.post("/classify", json={"model": "judge", "input": whole, "activation": False}).json()
    with Client(served.grpc) as client:
        [told] = client.score([Item(QUESTION, REPLY, scenario="math")], timeout_s=120.0)
    assert isinstance(told, Score)
    assert 0 < told.score < 1
    reward = -1.0 + 2 * told.score
    assert shard["scores"] == [told.score]
    assert shard["rewards"] == [reward]
    assert shard["extra_logs"]["judge_expected_rating"] == [told.expected_rating]
    assert number.json() == reward
    assert number.headers["x-themis-version"] == told.version
    assert [one["probs"] for one in classified["data"]] == [[reward]]
    assert classified["model"] == told.version


def test_without_the_setting_there_are_no_such_routes(tmp_path: Path) -> None:
    with running(tmp_path, "--http.port", "0") as process:
        address = events(process.log, "http")[0]["address"]
        answer = httpx.post(f"http://{address}/rm", json={"prompt": PROMPT, "response": "good"})
        assert answer.status_code == 404


def test_a_process_that_is_told_to_stop_finishes_and_leaves(tmp_path: Path) -> None:
    with running(tmp_path, "--http.port", "0", "--http.compat.enabled", "true") as process:
        address = events(process.log, "http")[0]["address"]
        sent = {"prompt": PROMPT, "response": "<|im_end|>"}
        answer = httpx.post(f"http://{address}/rm", json=sent)
        assert answer.json() == 0.75
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
        assert [line["method"] for line in events(process.log, "call")] == ["rm"]


def test_what_the_judge_cannot_take_fails_the_call(served: Served) -> None:
    answer = httpx.post(f"{served.http}/rm", json={"prompt": PROMPT, "response": "<|im_end|>"}, timeout=60.0)
    assert error(answer) == (400, "INVALID_ARGUMENT", "response")
    assert "empty response" in answer.json()["error"]["message"]
