"""The endpoints that a pipeline may ask: names, limits, prices; and who may not be a teacher."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from themis_judge.store.codec import canonical
from themis_pipeline.llm.calls import Request, check_extra
from themis_pipeline.llm.errors import Refused, SameLineage

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MESSAGE_TOKENS = 16  # what a chat template puts around a message, at most


@dataclass(frozen=True, slots=True)
class RateLimit:
    """For the whole fleet, by the endpoint's account; None: no limit. It is kept in windows of `window_s`: over any
    minute no more than (60 + window_s) / 60 of it passes. slices: into how many parts a window is leased out."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    window_s: float = 10.0
    slices: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.window_s <= 60 or self.slices < 1:
            raise ValueError("window_s lies in 1 to 60, slices is at least 1")
        if min(self.in_window()) < 1:
            raise ValueError("a window's share of the limit is less than 1: raise window_s")

    def in_window(self) -> tuple[int, int]:
        """Requests and tokens that a window has for the fleet."""
        limits = (self.requests_per_minute, self.tokens_per_minute)
        share = self.window_s / 60
        requests, tokens = (1 << 53 if limit is None else math.floor(limit * share) for limit in limits)
        return requests, tokens


@dataclass(frozen=True, slots=True)
class Endpoint:
    """base_url: as clients take it, "http://host:8000/v1".
    lineage: the families and models that it descends from, as the judge's lineage names them. prompt_price and
    completion_price: per million tokens, so a token costs as many millionths. timeout_s: for one attempt.
    concurrency, waiting: calls at a time, and those that may wait for their turn, in this process.
    bytes_per_token: for the rate limit's estimate. max_wait_s: an endpoint that asks for more gets no retry."""

    name: str
    base_url: str
    model: str
    lineage: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    limit: RateLimit = RateLimit()
    prompt_price: float = 0.0
    completion_price: float = 0.0
    concurrency: int = 16
    waiting: int = 1024
    timeout_s: float = 120.0
    attempts: int = 4
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 20.0
    max_wait_s: float = 60.0
    max_answer_bytes: int = 4 << 20
    bytes_per_token: float = 3.0
    max_tokens_field: str = "max_tokens"
    failures_to_open: int = 5
    open_s: float = 10.0
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if not _NAME.fullmatch(self.name):
            raise ValueError("an endpoint's name has small letters, digits, dots, dashes; it is part of file names")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{self.name}: base_url must be an http or https address")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError(f"{self.name}: base_url has a user, password, query or fragment in it")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ValueError(f"{self.name}: api_key has characters that a header can't carry, or is empty")
        counts = (self.concurrency, self.attempts, self.failures_to_open, self.max_answer_bytes)
        if min(counts) < 1 or self.waiting < 0:
            raise ValueError(f"{self.name}: concurrency, attempts, failures_to_open, max_answer_bytes are at least 1")
        positive = (self.timeout_s, self.bytes_per_token, self.open_s)
        rest = (self.prompt_price, self.completion_price, self.backoff_base_s, self.backoff_cap_s)
        if not all(map(math.isfinite, (*positive, *rest, self.max_wait_s))) or min(positive) <= 0:
            raise ValueError(f"{self.name}: timeout_s, bytes_per_token and open_s are above 0, numbers finite")
        if min(*rest, self.max_wait_s) < 0:
            raise ValueError(f"{self.name}: prices and times are not negative")
        check_extra(self.extra_body)

    def body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": request.temperature,
            self.max_tokens_field: request.max_tokens,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        return body | dict(self.extra_body) | dict(request.extra)

    def cost_micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        return math.ceil(prompt_tokens * self.prompt_price + completion_tokens * self.completion_price)

    def most_micros(self, request: Request) -> int:
        """The most that one attempt can cost: a token has at least a byte."""
        prompt = self._prompt_bytes(request) + _MESSAGE_TOKENS * (1 + len(request.messages))
        return self.cost_micros(prompt, request.max_tokens)

    def likely_tokens(self, request: Request) -> int:
        """For the rate limit, which endpoints count by the tokens that were asked for."""
        return math.ceil(self._prompt_bytes(request) / self.bytes_per_token) + request.max_tokens

    def _prompt_bytes(self, request: Request) -> int:
        """With extra fields: tools and schemas become parts of the prompt."""
        extra = {**self.extra_body, **request.extra}
        return request.prompt_bytes + (len(canonical(extra)) if extra else 0)


class Endpoints:
    """By name."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._named = {endpoint.name: endpoint for endpoint in endpoints}
        if len(self._named) != len(endpoints):
            raise ValueError("two endpoints have the same name")

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._named.values())

    def __getitem__(self, name: str) -> Endpoint:
        if name not in self._named:
            raise Refused(f"no endpoint is named {name!r}")
        return self._named[name]


def check_teacher(endpoint: Endpoint, judge_lineage: Collection[str], model: str | None = None) -> None:
    """model: as the endpoint itself named it. Raises SameLineage: a judge that learns from its own family inherits
    what it should unlearn, and a lineage that nobody stated proves nothing."""
    if not endpoint.lineage:
        raise SameLineage(f"{endpoint.name}: states no lineage, so it can't be a teacher")
    if not judge_lineage:
        raise SameLineage(f"{endpoint.name}: the judge's lineage isn't known, so nothing can be its teacher")
    own = {name.casefold() for name in (*endpoint.lineage, endpoint.model, *([model] if model else []))}
    shared = own & {name.casefold() for name in judge_lineage}
    if shared:
        raise SameLineage(f"{endpoint.name}: the judge descends from {min(shared)} as well, so it can't be its teacher")
