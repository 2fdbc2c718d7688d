"""What comes back. A result that is OK has a class of its own; everything else is a Failure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, overload

from themis_client.errors import ItemFailed
from themis_client.failure import Failure


@dataclass(frozen=True, slots=True)
class RatingProbability:
    """A rating on the rubric's scale and its probability in [0, 1]; the probabilities of all ratings sum to 1."""

    rating: int
    probability: float


@dataclass(frozen=True, slots=True)
class CritiquePoint:
    """One strength or shortcoming, and its rating on the rubric's scale."""

    text: str
    rating: int


@dataclass(frozen=True, slots=True)
class Critique:
    """What the judge found; `text` is as it was generated."""

    strengths: tuple[CritiquePoint, ...]
    shortcomings: tuple[CritiquePoint, ...]
    text: str


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    """The rating of one criterion; the weights of all criteria sum to 1."""

    id: str
    weight: float
    expected_rating: float
    rating: int
    probabilities: tuple[RatingProbability, ...] = ()
    label_mass: float | None = None


@dataclass(frozen=True, slots=True)
class ReasoningSample:
    """One sample of mode `reasoning`; `cut` if its reasons reached the token limit."""

    reasons: str
    expected_rating: float
    cut: bool


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of the judge's tokenizer. `cached` is the part of `prompt` that was not computed for this item."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an item's time went, in seconds."""

    queued_s: float = 0.0
    tokenised_s: float = 0.0
    computed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rating. `expected_rating` and `rating` are on the rubric's scale, `score` is the former mapped to [0, 1],
    `entropy` is in nats; `probabilities` ascend by rating, and are empty where the engine tells none."""

    expected_rating: float
    rating: int
    score: float
    probabilities: tuple[RatingProbability, ...] = ()
    label_mass: float | None = None
    entropy: float | None = None
    critique: Critique | None = None
    criteria: tuple[CriterionVerdict, ...] = ()
    samples: tuple[ReasoningSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """An item that was rated. float() gives `score`, the expected rating on a scale of 0 to 1."""

    verdict: Verdict
    version: str
    key: str = ""
    group: str = ""
    reasoning_verdict: Verdict | None = None
    scenario: str = ""
    scenario_probability: float | None = None
    template_digest: str = ""
    tokens: TokenCounts = TokenCounts()
    timings: Timings = Timings()
    prompt: str | None = None
    truncated_tokens: int = 0
    reference_used: bool = False

    @property
    def ok(self) -> bool:
        return True

    @property
    def score(self) -> float:
        """In [0, 1]."""
        return self.verdict.score

    @property
    def expected_rating(self) -> float:
        """On the rubric's scale."""
        return self.verdict.expected_rating

    @property
    def rating(self) -> int:
        """The most probable rating."""
        return self.verdict.rating

    @property
    def probabilities(self) -> tuple[RatingProbability, ...]:
        return self.verdict.probabilities

    @property
    def label_mass(self) -> float | None:
        return self.verdict.label_mass

    @property
    def entropy(self) -> float | None:
        """In nats."""
        return self.verdict.entropy

    @property
    def critique(self) -> Critique | None:
        return self.verdict.critique

    @property
    def criteria(self) -> tuple[CriterionVerdict, ...]:
        return self.verdict.criteria

    @property
    def samples(self) -> tuple[ReasoningSample, ...]:
        return self.verdict.samples

    def __float__(self) -> float:
        return self.verdict.score


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison that was judged. The three probabilities sum to 1 and are averaged over the orders asked for."""

    preference: Literal["A", "B", "tie"]
    probability_a: float
    probability_b: float
    probability_tie: float
    version: str
    key: str = ""
    order_disagreement: float | None = None
    label_mass: float | None = None
    scenario: str = ""
    template_digest: str = ""
    tokens: TokenCounts = TokenCounts()
    timings: Timings = Timings()
    prompts: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return True

    @property
    def margin(self) -> float:
        """probability_a - probability_b, in [-1, 1]."""
        return self.probability_a - self.probability_b


@dataclass(frozen=True, slots=True)
class ScenarioProbability:
    """A scenario's id and its probability among all scenarios."""

    scenario: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """A conversation's scenario."""

    scenario: str
    version: str
    key: str = ""
    probabilities: tuple[ScenarioProbability, ...] = ()
    label_mass: float | None = None

    @property
    def ok(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class TokenLikelihood:
    """One token of an answer: where it starts (bytes of UTF-8), and its log-likelihoods (natural logarithms)."""

    start_byte: int
    conditional: float
    unconditional: float


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Log-likelihoods of an answer (natural logarithms), summed over its tokens: after its prompt, and alone."""

    conditional: float
    unconditional: float
    answer_tokens: int
    version: str
    key: str = ""
    tokens: tuple[TokenLikelihood, ...] = ()
    counts: TokenCounts = TokenCounts()

    @property
    def ok(self) -> bool:
        return True


Scored: TypeAlias = "Score | Failure"
ComparedOrFailure: TypeAlias = "Compared | Failure"

OkT = TypeVar("OkT")


class Results(Sequence["OkT | Failure"], Generic[OkT]):
    """The results of a call, in the order of its items: a read-only list that can be asked what failed."""

    __slots__ = ("_results",)

    def __init__(self, results: Iterable[OkT | Failure]) -> None:
        self._results = tuple(results)

    @property
    def ok(self) -> list[OkT]:
        """Those that did not fail. Their positions are lost: zip the whole with your items where it matters."""
        return [result for result in self._results if not isinstance(result, Failure)]

    @property
    def failed(self) -> list[Failure]:
        return [result for result in self._results if isinstance(result, Failure)]

    def raise_if_failed(self) -> list[OkT]:
        """The results, if all are OK; otherwise raises ItemFailed, whose `failures` are all the failed ones."""
        failed = self.failed
        if failed:
            raise ItemFailed(f"{len(failed)} of {len(self)} items failed; the first: {failed[0]}", failed)
        return self.ok

    @overload
    def __getitem__(self, index: int) -> OkT | Failure: ...
    @overload
    def __getitem__(self, index: slice) -> Results[OkT]: ...
    def __getitem__(self, index: int | slice) -> OkT | Failure | Results[OkT]:
        return Results(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[OkT | Failure]:
        return iter(self._results)

    def __eq__(self, other: object) -> bool:
        return self._results == tuple(other) if isinstance(other, (Results, list, tuple)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._results)

    def __repr__(self) -> str:
        return f"Results({list(self._results)!r})"


Scores: TypeAlias = Results[Score]
Comparisons: TypeAlias = Results[Compared]
Classifications: TypeAlias = Results[Classified]
Difficulties: TypeAlias = Results[Difficulty]
