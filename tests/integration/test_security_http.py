"""The second port asks for the tokens of the first."""

from __future__ import annotations

from pathlib import Path

from tests.integration.observe_serving import observed
from tests.integration.security_parts import entry, write_callers
from tests.integration.sidecar_fakes import FakeJudge, make_config
from themis_sidecar.config import SecurityConfig

TOKEN = "token-4b1d9a77c0"


async def test_the_status_page_asks_for_a_caller_s_token_and_probes_for_none(tmp_path: Path) -> None:
    callers = write_callers(tmp_path / "callers.yaml", entry("trainer", TOKEN))
    config = make_config().model_copy(update={"security": SecurityConfig(callers_file=callers)})
    async with observed(FakeJudge(), config) as served:
        await served.serve()
        codes = {
            sent: (await served.http.get("/statusz", headers={"authorization": sent} if sent else {})).status_code
            for sent in ("", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}")
        }
        assert codes == {"": 401, "Bearer wrong": 401, f"Basic {TOKEN}": 401, f"Bearer {TOKEN}": 200}
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await served.http.get(path)).status_code == 200
