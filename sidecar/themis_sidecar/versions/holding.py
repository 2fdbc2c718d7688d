"""Calls that come while one set of weights is exchanged for another: they wait, and their number is bounded."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from themis_judge.engines.base import Deadline
from themis_sidecar.admission import Admission
from themis_sidecar.errors import CallTimeout
from themis_sidecar.versions.residents import Residents

_BYTES_PER_TOKEN = 3  # the judge's own estimate, which needs the judge that is being exchanged


class Holding:
    """What is held takes room in the same budget as what is at work, by the size of its request."""

    def __init__(self, residents: Residents, admission: Admission) -> None:
        self._residents = residents
        self._admission = admission
        self._calls = 0

    @property
    def calls(self) -> int:
        """How many calls are held now."""
        return self._calls

    async def wait(self, request: Message, deadline: Deadline, caller: str) -> None:
        """Returns at once where nothing is being exchanged. Raises Overloaded where there is no room to wait,
        CallTimeout where the wait is longer than the call."""
        if not self._residents.paused:
            return
        tokens = request.ByteSize() // _BYTES_PER_TOKEN
        admission = self._admission.of(caller)
        admission.admit(tokens, items=1)
        self._calls += 1
        try:
            async with asyncio.timeout(max(0.0, deadline.remaining_s())):
                while self._residents.paused:
                    await self._residents.opened()
        except TimeoutError as error:
            raise CallTimeout("the call's time is over; it waited for one judge to be exchanged for another") from error
        finally:
            self._calls -= 1
            admission.put_back(tokens)
