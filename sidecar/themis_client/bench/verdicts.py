"""What the reader of a run should know before believing its figures."""

from __future__ import annotations

from collections.abc import Iterator

from themis_client.bench.log import NOT_SENT
from themis_client.bench.run import Outcome
from themis_client.bench.words import seconds
from themis_client.failure import Status

BUSY_SHARE = 0.75
"""Of one core: from here on answers wait for the client as well, and its figures are no longer the server's."""
LATE_S = 0.02
FEW = 200
"""Items below which a 99th percentile is one of the two slowest."""


ROUNDS = 5
"""Calls one after the other below which a rate depends on how many of them just fit in."""


def warnings(outcome: Outcome) -> list[str]:
    """The weightiest first."""
    return list(_warnings(outcome))


def _warnings(outcome: Outcome) -> Iterator[str]:
    summary, shape = outcome.summary, outcome.shape
    if not summary.items:
        yield "nothing was measured: no item that was due after the warm-up has ended"
    if outcome.stopped:
        yield f"the run ended early ({outcome.stopped}); {outcome.cut_off} items under way were cut off, not counted"
    if outcome.full:
        yield "the run ended early: it had as many items as one run may keep"
    if summary.left_out:
        yield (
            f"{summary.left_out} refused attempts are counted, but stand neither in the hints nor over time: "
            "there were more than one run may keep"
        )
    if outcome.cpu_share > BUSY_SHARE or outcome.late_p99_s > LATE_S:
        yield (
            f"THE CLIENT IS A BOTTLENECK: it took {outcome.cpu_share:.0%} of a core and was up to "
            f"{outcome.late_p99_s * 1000:.0f} ms late (p99); start several of it, or elsewhere than the server"
        )
    failed = summary.items - summary.statuses.get(Status.OK.name, 0)
    if failed:
        yield f"{failed} of {summary.items} items got no score; latencies are of the others, except where said"
    if NOT_SENT in summary.statuses:
        yield f"{summary.statuses[NOT_SENT]} items were never sent: the server lets {shape.rate:g} items/s pile up"
    if summary.behind is not None and shape.rate and summary.behind.p99 > max(LATE_S, 0.1 * shape.timeout_s):
        yield f"calls left up to {summary.behind.p99:.2g} s (p99) after they were due: the rate is beyond capacity"
    if len(summary.versions) > 1:
        yield f"{len(summary.versions)} versions of the judge answered: these figures mix them"
    if summary.latency is not None and summary.latency.count < FEW:
        yield f"only {summary.latency.count} items: the p99 is hardly more than the slowest"
    if summary.latency is not None and summary.window_s < ROUNDS * summary.latency.p50:
        yield (
            f"an item took {seconds(summary.latency.p50)} (p50) of the {seconds(summary.window_s)} measured: "
            "rates are rough, measure longer"
        )
    if summary.overlapping:
        yield f"{summary.overlapping} items took several prompts at a time; their stages add up to more than they took"
