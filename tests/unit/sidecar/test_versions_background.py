"""What runs in shadow waits behind live work, on engines that can tell the two apart."""

from __future__ import annotations

import asyncio

from tests.unit.judge.fakes import FakeEngine
from themis_judge import Item, Judge, JudgeSettings, Message, Options, Response
from themis_sidecar.admission import Admission
from themis_sidecar.versions.residents import Resident
from themis_sidecar.versions.shadow import Shadow, ShadowBounds

ITEM = Item((Message.of("user", "What is two and two?"),), Response.of("Four."), scenario="math")


class Ranked(FakeEngine):
    """Prioritised: what comes for later is asked of another."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = FakeEngine()

    def background(self) -> FakeEngine:
        return self.behind


async def test_a_shadow_scores_in_the_background() -> None:
    engine = Ranked()
    judge = Judge(engine, settings=JudgeSettings(label_mass_threshold=0.0))
    await judge.load()
    shadow = Shadow(Admission(1000), ShadowBounds(waiting=10, queue_tokens=1000))
    shadow.start(Resident(judge, judge.version), 1.0)
    shadow.offer(ITEM, Options(), await judge.score_one(ITEM))
    for _ in range(1000):
        if not shadow.working:
            break
        await asyncio.sleep(0)
    assert shadow.agreement is not None
    assert (shadow.agreement.compared, shadow.agreement.same) == (1, 1)
    assert (len(engine.label_calls), len(engine.behind.label_calls)) == (1, 1)
    assert engine.behind.loads == 0


async def test_an_engine_that_knows_no_background_is_asked_itself() -> None:
    judge = Judge(FakeEngine())
    await judge.load()
    assert judge.background() is judge
