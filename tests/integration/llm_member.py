"""One process of a fleet that asks LLMs, as its settings say: each input again and again until it has its answer, as a
stage's runner would. Tells a line of JSON for each input that is done, then its accounts."""

from __future__ import annotations

import asyncio
import json
import sys

from themis_judge.engines.base import Deadline
from themis_pipeline.config import LLMConfig
from themis_pipeline.llm.accounts import Accounts
from themis_pipeline.llm.calls import CallContext, CallKey, Message, Request
from themis_pipeline.llm.client import JournaledLLM
from themis_pipeline.llm.errors import BudgetSpent, TryLater
from themis_pipeline.llm.opening import make_endpoints, open_llm

MAX_TOKENS = 20


async def main(settings: str, stage: str, first: str, count: str) -> None:
    config, accounts = LLMConfig.model_validate_json(settings), Accounts()
    inputs = [f"input-{number:03}" for number in range(int(first), int(first) + int(count))]
    async with open_llm(config, make_endpoints(config), lambda: (), accounts, teachers=(), warn=_say) as llm:
        await asyncio.gather(*(_done(llm, stage, name) for name in inputs))
    totals = accounts.of(stage, "near")
    _say(
        {
            "attempts": totals.attempts,
            "paid": totals.paid,
            "from_journal": totals.from_journal,
            "cost": totals.cost_micros,
            "unsure": totals.unsure_micros,
        }
    )


async def _done(llm: JournaledLLM, stage: str, name: str) -> None:
    request = Request("near", (Message("user", name),), MAX_TOKENS)
    while True:
        context = CallContext(CallKey(name, stage, 0), Deadline.after(30))
        try:
            completion = await llm.complete(request, context)
        except BudgetSpent:
            _say({"input": name, "text": None})
            return
        except TryLater as error:
            await asyncio.sleep(min(error.retry_after_s, 0.5))
        else:
            _say({"input": name, "text": completion.text})
            return


def _say(told: object) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
