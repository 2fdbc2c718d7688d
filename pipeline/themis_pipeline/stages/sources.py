"""How much of what each source feeds is taken into the stream.

A share is kept by the digest of each input's id and a seed, so that no process has to count, and a repeat is decided
as before. It caps a source's part of what it feeds, not how much it feeds: an upper bound on numbers is the archive's
selection, where all records stand side by side, and the broker's quotas. Sources call themselves by name: who may write
to a topic is the broker's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from themis_pipeline.runner.stage import Reject
from themis_pipeline.stages import chance
from themis_pipeline.stages.errors import BadSetting

PLANS_SOURCE = "themis-plans"
"""The source of what is made without a text of people's."""


def named(source: str) -> None:
    """Raises Reject for an input without a source, or with ours."""
    if not source:
        raise Reject("source", "every input names its source")
    if source == PLANS_SOURCE:
        raise Reject("source", "the name stands for what the pipeline makes by itself")


@dataclass(frozen=True, slots=True)
class SourceShares:
    """shares: by source, in [0, 1]; others: of all that aren't named. seed: with another one, another part is kept;
    who knows it can choose ids that are kept."""

    shares: Mapping[str, float] = field(default_factory=dict)
    others: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for source, share in (*self.shares.items(), ("others", self.others)):
            if not 0 <= share <= 1:
                raise BadSetting(f"the share of {source} is not within 0 and 1")

    def keep(self, source: str, id: str) -> bool:
        return chance.kept(self.shares.get(source, self.others), "source", self.seed, source, id)
