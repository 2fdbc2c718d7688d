"""How much work may wait for the engine: a budget of tokens over all callers, shared fairly between them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from themis_judge.engines.base import Deadline
from themis_sidecar.errors import Overloaded
from themis_sidecar.security.accounts import Account, Accounts, Waiter
from themis_sidecar.security.callers import ANONYMOUS
from themis_sidecar.security.limits import UNLIMITED, LimitsOf
from themis_sidecar.throughput import Throughput

MIN_RETRY_S, MAX_RETRY_S = 0.1, 60.0
UNMEASURED_RETRY_S = 1.0
COMING_BACK_S = 5.0  # after the time it was told, a caller that was refused is expected for so long


class Admission:
    """Tokens are taken when work is admitted and given back when it is answered.

    Work beyond the budget, or beyond what its caller may take, is refused, or waits its turn where its source can be
    held back (a stream that is not read). Work larger than a limit is let in when there is nothing else in its way,
    so that nothing is refused for ever.
    """

    def __init__(
        self,
        max_tokens: int,
        clock: Callable[[], float] = time.monotonic,
        limits_of: LimitsOf = lambda _: UNLIMITED,
    ) -> None:
        self._max_tokens = max_tokens
        self._clock = clock
        self._throughput = Throughput(clock)
        self._queued_tokens = 0
        self._accounts = Accounts(max_tokens, limits_of, clock)
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def queued_tokens(self) -> int:
        return self._queued_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """The speed measured; None before anything was."""
        return self._throughput.tokens_per_s

    def of(self, caller: str) -> CallerAdmission:
        """The same for the work of one caller."""
        return CallerAdmission(self, caller)

    def admit(self, tokens: int, caller: str = ANONYMOUS, items: int = 1) -> None:
        """Takes `tokens` at once or raises Overloaded; those that wait for their turn go first."""
        if not items:
            return
        account = self._accounts.of(caller)
        self._check_own_limits(account, tokens, items)
        others_first = account.waiting or self._accounts.first_in_line() is not None
        if others_first or not self._accounts.has_share(account, tokens) or not self._fits(tokens):
            retry_after_s = self.retry_after_s()
            account.hungry_until_s = self._clock() + retry_after_s + COMING_BACK_S
            raise Overloaded(
                f"{self._queued_tokens} tokens are queued and this call would add {tokens}; "
                f"the server takes {self._max_tokens}, in equal shares where several callers want more",
                retry_after_s,
            )
        self._take(account, tokens, items)

    async def wait(self, tokens: int, deadline: Deadline, caller: str = ANONYMOUS) -> bool:
        """Takes `tokens` for an item as soon as they fit, in the caller's order; False where the deadline comes
        first."""
        account = self._accounts.of(caller)
        waiter = Waiter(tokens, next(self._numbers), asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._admit_waiting()
        try:
            await asyncio.wait((waiter.turn,), timeout=max(0.0, deadline.remaining_s()))
        except asyncio.CancelledError:
            if not self._withdraw(account, waiter):
                self.release(tokens, worked=False, caller=caller)
            raise
        return not self._withdraw(account, waiter)

    def release(self, tokens: int, worked: bool = True, caller: str = ANONYMOUS) -> None:
        """Gives back what an item took. worked: False for work that was dropped, which says nothing about speed."""
        self._throughput.passed(busy=True)
        if worked:
            self._throughput.done(tokens)
        self._queued_tokens -= tokens
        account = self._accounts.of(caller)
        account.tokens -= tokens
        account.items -= 1
        self._admit_waiting()

    def put_back(self, tokens: int, caller: str = ANONYMOUS) -> None:
        """Gives back what was taken for a wait alone: it does not count against its caller's tokens a second, since
        the work itself still will."""
        account = self._accounts.of(caller)
        account.bucket.take(-tokens, account.limits)
        self.release(tokens, worked=False, caller=caller)

    def retry_after_s(self) -> float:
        """When the queue will have been worked off, by the speed measured."""
        return self._worked_off_s(self._queued_tokens)

    def _worked_off_s(self, tokens: int) -> float:
        speed = self.tokens_per_s
        return _bounded(UNMEASURED_RETRY_S if speed is None else tokens / speed)

    def _check_own_limits(self, account: Account, tokens: int, items: int) -> None:
        if not account.has_items_left(items):
            raise Overloaded(
                f"{account.name} has {account.items} items in flight and this call would add {items}; "
                f"it may have {account.limits.max_items}",
                self._worked_off_s(account.tokens),
            )
        held_back_s = account.held_back_s(tokens)
        if held_back_s:
            raise Overloaded(
                f"{account.name} is ahead of its {account.limits.tokens_per_s:g} tokens a second, "
                f"and this call would add {tokens}",
                _bounded(held_back_s),
            )

    def _fits(self, tokens: int) -> bool:
        return self._queued_tokens == 0 or self._queued_tokens + tokens <= self._max_tokens

    def _take(self, account: Account, tokens: int, items: int) -> None:
        self._throughput.passed(busy=self._queued_tokens > 0)
        self._queued_tokens += tokens
        account.take(tokens, items)

    def _withdraw(self, account: Account, waiter: Waiter) -> bool:
        """Whether `waiter` was still waiting; it no longer is."""
        if waiter.turn.done():
            return False
        account.waiting.remove(waiter)
        self._admit_waiting()
        return True

    def _admit_waiting(self) -> None:
        while (account := self._accounts.first_in_line()) is not None and self._fits(account.waiting[0].tokens):
            waiter = account.waiting.popleft()
            self._take(account, waiter.tokens, 1)
            waiter.turn.set_result(None)
        self._come_back()

    def _come_back(self) -> None:
        """Everything else that admits is an event; only a caller's own rate goes by time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay_s = self._accounts.next_turn_s()
        if delay_s is not None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._admit_waiting)


class CallerAdmission:
    """Admission for the work of one caller."""

    def __init__(self, admission: Admission, caller: str) -> None:
        self._admission = admission
        self._caller = caller

    def admit(self, tokens: int, items: int) -> None:
        self._admission.admit(tokens, self._caller, items)

    async def wait(self, tokens: int, deadline: Deadline) -> bool:
        return await self._admission.wait(tokens, deadline, self._caller)

    def release(self, tokens: int, worked: bool) -> None:
        self._admission.release(tokens, worked, self._caller)

    def put_back(self, tokens: int) -> None:
        self._admission.put_back(tokens, self._caller)


def _bounded(retry_s: float) -> float:
    return min(max(retry_s, MIN_RETRY_S), MAX_RETRY_S)
