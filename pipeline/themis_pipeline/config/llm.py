"""Which LLMs are asked, how fast, and for how much money."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from themis_pipeline.config.section import Section


class RateConfig(Section):
    """What an endpoint's account may ask for, all processes together."""

    requests_per_minute: PositiveInt | None = None
    """Default: no limit."""
    tokens_per_minute: PositiveInt | None = None
    """Tokens of prompts (estimated) and of answers (as many as are asked for); default: no limit."""
    window_s: Annotated[float, Field(ge=1, le=60)] = 10.0
    """In which the limits are kept: no request may need more than such a window has."""
    slices: PositiveInt = 8
    """Into how many parts a window is leased out, about; at least the number of processes serves best."""


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    """How records, journal and accounts call it. A new name is a new endpoint, that pays for everything again."""
    base_url: str
    """As clients take it, http://host:8000/v1."""
    model: str
    """The model to ask for."""
    lineage: tuple[str, ...] = ()
    """Families and models that it descends from; without, it can't be a teacher."""
    weight: NonNegativeFloat = 1.0
    """Its share where one is chosen."""
    api_key_file: Path | None = None
    """A file with the key; default: none is sent."""
    rate: RateConfig = RateConfig()
    prompt_price: NonNegativeFloat = 0.0
    """For a million tokens of prompts, in the budget's currency."""
    completion_price: NonNegativeFloat = 0.0
    """For a million tokens of answers."""
    concurrency: PositiveInt = 16
    """Requests at a time, for each process."""
    waiting: NonNegativeInt = 1024
    """Calls that may wait for their turn, for each process; further ones are refused."""
    timeout_s: PositiveFloat = 120.0
    """The longest one attempt may take."""
    attempts: PositiveInt = 4
    """Of a call, all of them within its deadline."""
    max_wait_s: NonNegativeFloat = 60.0
    """An endpoint that asks for more patience gets no retry."""
    failures_to_open: PositiveInt = 5
    """After so many failures in a row it is left alone for open_s, and then tried with one call."""
    open_s: PositiveFloat = 10.0
    """Twice as long after each trial that fails, up to 32 times."""
    max_tokens_field: str = "max_tokens"
    """Newer models call it max_completion_tokens."""
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """More fields of each request."""


class BudgetConfig(Section):
    """What all processes together may spend."""

    name: str = Field(default="all", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """A new name is a new budget."""
    total: NonNegativeFloat = 0.0
    """In the currency of the prices. Endpoints without prices need none."""
    stages: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")], NonNegativeFloat] = Field(
        default_factory=dict
    )
    """The most that single stages may spend of it, by their names; others have no bound of their own."""
    slice: PositiveFloat = 1.0
    """What a process leases at a time. As much may lie idle for each process when a budget ends, and is lost with a
    process that is killed."""


class LLMConfig(Section):
    """Calls to LLMs."""

    endpoints: tuple[EndpointConfig, ...] = ()
    """Whom to ask."""
    store_url: str | None = None
    """A folder or an fsspec URL (s3://bucket/llm) that all processes share: paid answers, limits and budget."""
    store_timeout_s: PositiveFloat = 30.0
    """The longest one call of an object store may take, beside the bytes that it moves."""
    journal_retention_days: PositiveFloat | None = 120.0
    """How long paid answers are kept, for inputs that are read again: longer than dead letters and their replays
    together are. Empty: for ever."""
    allow_judge_lineage: bool = False
    """Lets a teacher be of the judge's own lineage, or of none that is stated. For demonstrations only."""
    budget: BudgetConfig = BudgetConfig()

    @model_validator(mode="after")
    def _whole(self) -> LLMConfig:
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) != len(names):
            raise ValueError("endpoints: two have the same name")
        if self.endpoints and not self.store_url:
            raise ValueError("store_url: without it, answers would be paid for again after each restart")
        if any(re.search(r"//[^/]*@", endpoint.base_url) for endpoint in self.endpoints):
            raise ValueError("endpoints: a base_url has a user or password in it; use api_key_file")
        return self
