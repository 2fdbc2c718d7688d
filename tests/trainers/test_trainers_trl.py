"""Which TRL these tests run with: make says so, and this sees that it is true."""

from __future__ import annotations

import importlib.util
import os
import re
from importlib.metadata import version

from tests.integration.sidecar_running import ROOT


def test_trl_is_the_one_that_its_lock_names() -> None:
    newest = os.environ.get("THEMIS_TRL") == "newest"
    lock = ROOT / "requirements" / ("trl.txt" if newest else "test.txt")
    [pinned] = re.findall(r"^trl==(\S+)", lock.read_text(), re.MULTILINE)
    assert version("trl") == pinned
    assert (importlib.util.find_spec("trl.experimental.ppo") is None) is newest
