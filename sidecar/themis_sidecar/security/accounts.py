"""What each caller has in the queue, and who of them may take more of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from themis_sidecar.security.limits import CallerLimits, LimitsOf, TokenBucket


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One item that waits for room. number: the order of arrival, over all callers."""

    tokens: int
    number: int
    turn: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Account:
    """One caller's work. hungry_until_s: how long a refusal counts as a wish for room, on the clock."""

    name: str
    bucket: TokenBucket
    limits: CallerLimits
    tokens: int = 0
    items: int = 0
    waiting: deque[Waiter] = field(default_factory=deque)
    hungry_until_s: float = float("-inf")

    def has_items_left(self, items: int) -> bool:
        most = self.limits.max_items
        return most is None or self.items <= 0 or self.items + items <= most

    def held_back_s(self, tokens: int) -> float:
        """How long its own rate keeps it from taking so many tokens."""
        return self.bucket.wait_s(tokens, self.limits)

    def within_own_limits(self, tokens: int, items: int) -> bool:
        return self.has_items_left(items) and not self.held_back_s(tokens)

    def take(self, tokens: int, items: int) -> None:
        self.bucket.take(tokens, self.limits)
        self.tokens += tokens
        self.items += items
        self.hungry_until_s = float("-inf")


class Accounts:
    """All callers that have work here, wish to, or did not long ago."""

    def __init__(self, max_tokens: int, limits_of: LimitsOf, clock: Callable[[], float]) -> None:
        self._max_tokens = max_tokens
        self._limits_of = limits_of
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def of(self, name: str) -> Account:
        """With the limits as they are now: the file they stand in may have changed."""
        account = self._accounts.get(name)
        if account is None:
            self._forget_idle()
            account = self._accounts[name] = Account(name, TokenBucket(self._clock), self._limits_of(name))
        account.limits = self._limits_of(name)
        return account

    def has_share(self, account: Account, tokens: int) -> bool:
        """Whether `account` may hold so many more. While another caller wants room nobody goes beyond an equal share;
        otherwise one may take what there is. Work larger than a share is let in where its caller holds nothing."""
        most = self._max_tokens * account.limits.queue_share
        now_s = self._clock()
        hungry = [one for one in self._accounts.values() if self._is_hungry(one, now_s)]
        if any(one is not account for one in hungry):
            sharing = {id(one) for one in (*hungry, account)} | {
                id(one) for one in self._accounts.values() if one.tokens
            }
            most = min(most, self._max_tokens / len(sharing))
        return account.tokens == 0 or account.tokens + tokens <= most

    def first_in_line(self) -> Account | None:
        """Of those whose next item may be taken but for the total: who holds least, then who has waited longest."""
        ready = [
            one
            for one in self._accounts.values()
            if one.waiting
            and one.within_own_limits(one.waiting[0].tokens, 1)
            and self.has_share(one, one.waiting[0].tokens)
        ]
        return min(ready, key=lambda one: (one.tokens, one.waiting[0].number), default=None)

    def next_turn_s(self) -> float | None:
        """When some caller's own rate lets its next item through; None where none waits for that."""
        delays = [one.held_back_s(one.waiting[0].tokens) for one in self._accounts.values() if one.waiting]
        return min((delay for delay in delays if delay > 0), default=None)

    def _is_hungry(self, account: Account, now_s: float) -> bool:
        if account.waiting and account.within_own_limits(account.waiting[0].tokens, 1):
            return True
        return account.hungry_until_s > now_s

    def _forget_idle(self) -> None:
        now_s = self._clock()
        self._accounts = {
            name: one
            for name, one in self._accounts.items()
            if one.tokens
            or one.items > 0
            or one.waiting
            or one.hungry_until_s > now_s
            or not one.bucket.full(one.limits)
        }
