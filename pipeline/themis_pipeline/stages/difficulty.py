"""How hard each label is to foresee, by the sidecar's `Difficulty` on a frozen scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from themis_client import AsyncClient, Conversation, InvalidItem, Item
from themis_client.items import DifficultyItem
from themis_client.results import TokenLikelihood
from themis_pipeline.runner.stage import Reject
from themis_pipeline.select import ifd
from themis_pipeline.stages.convert import conversation, item, text_message
from themis_pipeline.stages.judging import only
from themis_pipeline.stages.pieces import pieces
from themis_pipeline.stages.seam import Context
from themis_proto.v1 import events_pb2 as ev


@dataclass(frozen=True, slots=True)
class Difficulty:
    """scorer: the version that scores, pinned for good: scores of different ones don't mix."""

    client: AsyncClient
    scorer: str

    async def handle(self, event: ev.Labelled, context: Context) -> Sequence[ev.Scored]:
        """A label without a critique goes on without a difficulty, and so does one of which nothing is free."""
        scored = ev.Scored(id=event.id, labelled=event)
        if not event.critique:
            return [scored]
        try:
            asked = DifficultyItem(self._prompt(event), event.critique)
        except InvalidItem as error:
            raise Reject("item", error.field) from error
        found = await only(
            self.client.difficulty(
                [asked], version=self.scorer, return_tokens=True, timeout_s=context.deadline.remaining_s()
            )
        )
        if found.version != self.scorer:
            raise Reject("scorer", "another version answered than the one that was asked for")
        result = _of_free(event.critique, found.tokens)
        if result is not None:
            scored.difficulty.CopyFrom(_recorded(self.scorer, result))
        return [scored]

    def _prompt(self, event: ev.Labelled) -> Item | Conversation:
        # The sidecar makes the judge's prompt for one response itself; for two it has no such call.
        if event.mode == ev.LABEL_MODE_PAIRWISE:
            return conversation([text_message("user", event.prompt)])
        return item(event)


def _of_free(critique: str, tokens: Sequence[TokenLikelihood]) -> ifd.Difficulty | None:
    """Over the tokens that the format of an evaluation leaves free. None: there is none. Raises Reject for tokens that
    aren't the critique's, or whose likelihoods are none."""
    text, forced = ifd.joined(pieces(critique))
    losses = [ifd.TokenLoss(one.start_byte, one.conditional, one.unconditional) for one in tokens]
    try:
        free = ifd.free_tokens(losses, forced, len(text.encode()))
        return ifd.difficulty(free) if free else None
    except ValueError as error:
        raise Reject("tokens", "the tokens that came back are not the critique's, or have no likelihoods") from error


def _recorded(scorer: str, found: ifd.Difficulty) -> ev.RecordDifficulty:
    return ev.RecordDifficulty(
        scorer=scorer,
        log_perplexity_ratio=found.log_perplexity_ratio,
        mean_loss_ratio=found.mean_loss_ratio,
        loss_with_prompt=found.loss_with_prompt,
        loss_alone=found.loss_alone,
        tokens=found.tokens,
    )
