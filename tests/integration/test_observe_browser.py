"""The status page in a real browser: what it shows, and that it shows anything."""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.integration.observe_serving import ObservedJudge, observed
from tests.integration.sidecar_fakes import VERSION, item
from tests.integration.test_observe_http import CANARY, known_traffic
from themis_proto.v1 import judge_pb2 as pb

BROWSER = "chromium"  # scripts/system-packages brings it
FLAGS = (
    "--headless",
    "--no-sandbox",  # it runs as root where tests do
    "--disable-gpu",
    "--no-first-run",
    # It asks its maker for nothing:
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
BROWSER_S = 120


async def browse(folder: Path, *arguments: str) -> str:
    """What the browser prints."""
    browser = await asyncio.create_subprocess_exec(
        BROWSER,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(browser.communicate(), BROWSER_S)
    finally:
        if browser.returncode is None:
            browser.kill()
    assert browser.returncode == 0, errors.decode()
    return output.decode()


async def test_a_person_sees_the_servers_state(tmp_path: Path) -> None:
    picture = tmp_path / "status.png"
    async with observed(ObservedJudge()) as served:
        await known_traffic(served)
        held = asyncio.ensure_future(served.stub.Score(pb.ScoreRequest(items=[item("hold")])))
        await served.judge.until(lambda: "hold" in served.judge.started)
        url = f"http://{served.address}/statusz"
        dom = await browse(tmp_path, "--dump-dom", url)
        await browse(tmp_path, f"--screenshot={picture}", "--window-size=1100,1400", url)
        served.judge.released.set()
        await held
    assert '<span id="state" class="badge ready">ready</span>' in dom
    assert "<title>themis-sidecar: ready</title>" in dom
    assert f"<code>{VERSION}</code>" in dom
    assert "<b>1</b> of 1,024 calls in flight" in dom
    assert "<b>10</b> of 2,000,000 tokens queued" in dom
    assert "<td>OFF_FORMAT</td>" in dom
    [bad, unexpected] = re.findall("<tr><td>20(.*?)</tr>", dom.split('id="failures"')[1].split("</table>")[0])
    assert '<td>Score</td><td>INVALID_ARGUMENT</td><td class="number">0</td>' in bad
    [incident] = [line["incident"] for line in served.lines("incident")]
    assert '<td>Score</td><td>INTERNAL</td><td class="number">1</td>' in unexpected
    assert f"<code>{incident}</code>" in unexpected
    assert "object at 0x" not in dom
    assert CANARY not in dom
    assert len(set(pixels(picture))) > 100, "the picture is blank"


def pixels(picture: Path) -> Iterator[bytes]:
    """The rows of a PNG as they are stored: a page without content has next to no distinct ones."""
    data, at, packed = picture.read_bytes(), 8, b""
    width = channels = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack_from(">IIBB", data, at + 8)
            assert depth == 8
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += size + 12
    row = width * channels + 1
    stored = zlib.decompress(packed)
    return (stored[begin : begin + row] for begin in range(0, len(stored), row))
