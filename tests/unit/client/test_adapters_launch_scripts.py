"""The launch scripts for clusters, without the clusters: what they would start, and with which reward."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from themis_client.adapters import openrlhf, read_settings, settings_from_environment
from themis_client.adapters.templated import template_from_environment

EXAMPLES = Path(__file__).parents[3] / "examples"
OPENRLHF, VERL = EXAMPLES / "openrlhf/train_grpo.sh", EXAMPLES / "verl/train_grpo.sh"
RECORDER = f"#!{sys.executable}\nimport json, os, sys\njson.dump(sys.argv[1:], open(os.environ['RECORD'], 'w'))\n"


def launched(script: Path, folder: Path, records: str, *arguments: str, **variables: str) -> list[str]:
    """What the script called the program with that starts the training; `records` stands in for it."""
    program = folder / records
    program.write_text(RECORDER, encoding="utf-8")
    program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THEMIS_")}
    environment = clean | {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(folder / "record"), **variables}
    subprocess.run([str(script), *arguments], env=environment, check=True, timeout=60)
    called: list[str] = json.loads((folder / "record").read_text(encoding="utf-8"))
    return called


@pytest.mark.parametrize("script", [OPENRLHF, VERL], ids=["openrlhf", "verl"])
def test_scripts_are_bash_and_ask_for_the_judge(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)
    without = {name: value for name, value in os.environ.items() if name != "JUDGE"}
    refused = subprocess.run([str(script)], env=without, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "JUDGE: the address of the judge" in refused.stderr


def test_openrlhf_gets_the_file_and_its_workers_the_settings(tmp_path: Path) -> None:
    called = launched(
        OPENRLHF, tmp_path, "ray", "--data.label_key", "answer", JUDGE="a:1,b:2", RUN="r1", PYTHON=sys.executable
    )
    [environment] = [one.split("=", 1)[1] for one in called if one.startswith("--runtime-env-json=")]
    variables: dict[str, str] = json.loads(environment)["env_vars"]
    settings = settings_from_environment(variables)
    assert (settings.target, settings.run, settings.on_failure) == ("a:1,b:2", "r1", "raise")
    assert template_from_environment(variables).ended("x<|im_end|>")
    assert called[called.index("--reward.remote_url") + 1] == openrlhf.__file__
    assert called[-2:] == ["--data.label_key", "answer"]


def test_verl_gets_the_manager_and_the_settings_in_its_configuration(tmp_path: Path) -> None:
    called = launched(
        VERL, tmp_path, "python", "+reward.themis.on_failure=-1.0", JUDGE="a:1,b:2", RUN="r1", PYTHON="python"
    )
    assert called[:2] == ["-m", "verl.trainer.main_ppo"]
    given = dict(one.lstrip("+").split("=", 1) for one in called[2:])
    assert given["reward.reward_manager.module.path"] == "pkg://themis_client.adapters.verl"
    named: dict[str, Any] = {
        name.removeprefix("reward.themis."): json.loads(value)
        for name, value in given.items()
        if name.startswith("reward.themis.")
    }
    settings = read_settings(named)
    assert (settings.target, settings.run, settings.on_failure) == ("a:1,b:2", "r1", -1.0)
