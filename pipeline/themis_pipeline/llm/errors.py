"""What goes wrong with a call to an LLM. No text of a prompt or an answer stands in any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from themis_pipeline.llm.calls import Completion


class LLMError(Exception):
    """Base of what this package raises."""


class TryLater(LLMError):
    """Nothing is wrong with the request: the same one may succeed later. `retry_after_s` is the best estimate."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EndpointUnavailable(TryLater):
    """Unreachable, failing, answering what is no completion, or left alone by its circuit breaker."""


class RateLimited(TryLater):
    """The endpoint, or the fleet's own limit for it, asks for more patience than the call has."""


class Overloaded(TryLater):
    """Too many calls wait for this endpoint in this process."""


class DeadlinePassed(TryLater):
    """The call's deadline passed before there was an answer."""


class SharedStoreUnavailable(TryLater):
    """Journal, limits or budget can't be asked, and without them nothing is paid for."""


class BudgetSpent(TryLater):
    """The budget has no room for the most that this call could cost."""


class Refused(LLMError):
    """The endpoint, or this module, takes no such request; the same one will be refused again."""


class SameLineage(LLMError):
    """A teacher of the judge's own lineage, or one whose lineage nobody has stated. That is no fault of the input, and
    waiting doesn't mend it: nothing opens with such a teacher, and a process where it turns out later has to end."""


class CorruptRecord(LLMError):
    """An entry of the shared store isn't what this module writes. The text names it."""


class NoText(LLMError):
    """The endpoint answered and was paid, but not with a whole text. `completion` tells what it cost. A repeat gets
    the same from the journal: another answer needs a call key with another `attempt`."""

    def __init__(self, message: str, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class CutShort(NoText):
    """The answer was ended by max_tokens or by the context. `completion.text` is what there is of it."""


class Withheld(NoText):
    """The endpoint's filter or the model itself kept the answer back."""


class EmptyAnswer(NoText):
    """An answer with no text in it: reasoning that took all tokens, a call of a tool, or nothing."""
