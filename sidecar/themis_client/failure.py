"""An item without a score, which refuses to be taken for a number."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from themis_client.errors import ItemFailed


class Status(enum.Enum):
    """What became of an item; numbers as in the contract's ItemStatus."""

    UNKNOWN = 0
    """A status that this client does not know: the server is newer."""
    OK = 1
    INVALID = 2
    """The item is malformed, or too large for the wire; `field` names where."""
    TOO_LONG = 3
    """It doesn't fit the judge's context."""
    OFF_FORMAT = 4
    """The judge did not answer with a rating."""
    DEADLINE_EXCEEDED = 5
    OVERLOADED = 6
    UNAVAILABLE = 7
    ENGINE_ERROR = 8
    UNSUPPORTED = 9


RESENT = frozenset({Status.OVERLOADED, Status.UNAVAILABLE, Status.ENGINE_ERROR})
"""What the client itself sends again, while attempts and time are left."""

RETRYABLE = RESENT | {Status.DEADLINE_EXCEEDED}
"""What a later call may cure. The deadline is in it for callers only: within a call there is no time left."""

NUMERIC = frozenset(
    {
        "score",
        "expected_rating",
        "rating",
        "probabilities",
        "label_mass",
        "entropy",
        "verdict",
        "reasoning_verdict",
        "critique",
        "criteria",
        "samples",
        "preference",
        "probability_a",
        "probability_b",
        "probability_tie",
        "margin",
        "order_disagreement",
        "disagreement",
        "games",
        "conditional",
        "unconditional",
        "answer_tokens",
    }
)
"""What a result that is OK would have, and a failure must not seem to have."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that has no score, and why.

    It has no numeric attribute; reading one, converting it, comparing it by order or with a number, computing with it
    and taking its truth value all raise ItemFailed. `field` is a path from the call ("items[3].messages[0].role").
    """

    status: Status
    error: str
    field: str = ""
    key: str = ""
    group: str = ""
    version: str = ""
    scenario: str = ""

    @property
    def ok(self) -> bool:
        return False

    @property
    def retryable(self) -> bool:
        """Whether sending the item again later may help."""
        return self.status in RETRYABLE

    def __str__(self) -> str:
        name = f" {self.key!r}" if self.key else ""
        return f"item{name} failed with {self.status.name}: {self.error}"

    def _refuse(self, *_: object) -> NoReturn:
        raise ItemFailed(f"{self}; a failed item has no number and no truth value", (self,))

    def __eq__(self, other: object) -> bool:
        # "failure == 0.0" is a mistake, never a question; two failures may be compared.
        if isinstance(other, (int, float, complex)):
            self._refuse()
        return self._fields() == other._fields() if isinstance(other, Failure) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields())

    def _fields(self) -> tuple[object, ...]:
        return self.status, self.error, self.field, self.key, self.group, self.version, self.scenario

    if not TYPE_CHECKING:
        # Hidden from type checkers, to which the attribute is simply missing.
        def __getattr__(self, name: str) -> object:
            if name in NUMERIC:
                self._refuse()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        __float__ = __int__ = __complex__ = __index__ = __bool__ = __round__ = __trunc__ = __floor__ = __ceil__ = (
            _refuse
        )
        __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __pos__ = __abs__ = __invert__ = _refuse
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __pow__ = __rpow__ = _refuse
