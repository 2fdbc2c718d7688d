"""A stage that gave up since answers were of no use asks anew when its record is replayed, and pays nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.pipeline.llm_endpoint import answer, misbehaving
from tests.unit.pipeline.llm_parts import NAME, near, put_together
from tests.unit.pipeline.stages_parts import context
from tests.unit.pipeline.test_dead_letters import DEAD, RETRY, a_record, dead, letter_of
from themis_judge.engines.base import Deadline
from themis_pipeline.dead_letters import replays
from themis_pipeline.dead_letters.letters import Burial
from themis_pipeline.dead_letters.replay import returned
from themis_pipeline.kafka.seam import Partition, Record
from themis_pipeline.runner.retries import Retries
from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages.asking import Asker, Model, Sampling
from themis_pipeline.stages.errors import Unparsable

MODEL = Model(NAME, "small", "else")


def read(text: str) -> str:
    if text != "fine":
        raise Unparsable("words")
    return text


async def test_a_replay_asks_anew_where_a_redelivery_does_not(tmp_path: Path) -> None:
    with misbehaving(*[answer("no")] * 2, answer("", "length"), answer("no"), answer("fine"), answer("no")) as server:
        async with put_together(tmp_path, near(server.url)) as parts:
            asker = Asker(parts.llm, "label", Sampling(tries=3))
            deadline = Deadline(parts.moments.now_s + 300)

            async def asked(times: int) -> str:
                given = replace(context(), deadline=deadline, replays=times)
                found, _ = await asker.read(MODEL, "Say fine.", read, "input-1", 0, given)
                return found

            for _ in range(2):
                with pytest.raises(Reject, match="in 3 answers"):
                    await asked(0)
                assert server.calls == 3
            assert await asked(1) == "fine"
            assert server.calls == 5
            assert await asked(1) == "fine"
            assert await asked(2) == "fine"
    assert server.calls == 5


def test_a_records_replays_are_counted_through_retries_and_further_letters() -> None:
    retries = Retries("label", RETRY.name, Burial(DEAD))
    record = a_record()
    assert replays.count(record.headers) == 0
    given_up = dead(record)
    for times in range(1, replays.MOST + 5):
        output, _ = returned(letter_of(Burial(DEAD)(given_up)), RETRY, DEAD, "", "").outputs
        assert output.value is not None
        again = retries.delivery(Record(Partition(RETRY.name, 0), times, output.key, output.value, output.headers))
        assert replays.count(again.record.headers) == min(times, replays.MOST)
        assert again.record.headers[: len(record.headers)] == record.headers
        given_up = replace(given_up, delivery=again)


@pytest.mark.parametrize("forged", [None, b"", b"many", b"-1", b"9" * 5000, "\u0663".encode()])
def test_a_count_that_is_none_is_none(forged: bytes | None) -> None:
    assert replays.count([(replays.HEADER, forged)]) == 0
    assert replays.counted([(replays.HEADER, forged), ("x", None)]) == (("x", None), (replays.HEADER, b"1"))


def test_a_count_without_measure_is_bounded() -> None:
    assert replays.count([(replays.HEADER, b"999")]) == replays.MOST
