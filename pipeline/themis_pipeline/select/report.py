"""A selection for people: a table of what became of the candidates, by scenario, rating and source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from themis_pipeline.select.outcome import Decision, Outcome, Reason

_SHOWN_TRIGGERS = 10


def report(outcome: Outcome) -> RenderableType:
    """Tables, and sentences on what needs a look."""
    keys: dict[str, Callable[[Decision], str]] = {
        "scenario": lambda one: one.scenario,
        "rating": lambda one: one.rating,
        "source": lambda one: one.source,
    }
    return Group(*(_table(outcome, name, key) for name, key in keys.items()), *notes(outcome))


def notes(outcome: Outcome) -> Iterator[str]:
    """What a table doesn't say."""
    for scenario, records in outcome.shortfall.items():
        where = "in all" if scenario == "all" else f"of {scenario}"
        yield f"{records} records {where} were asked for and are not there"
    scenarios = {decision.scenario for decision in outcome.decisions}
    for scenario in sorted(scenarios - {decision.scenario for decision in outcome.decisions if decision.kept}):
        yield f"nothing of {scenario} is kept"
    for trigger in outcome.triggers[:_SHOWN_TRIGGERS]:
        yield (
            f"{trigger.text!r} is tied to {trigger.rating}: {trigger.tied} of {trigger.instructions} instructions, "
            f"{len(trigger.records)} records, p {trigger.p:.1e}"
        )
    if len(outcome.triggers) > _SHOWN_TRIGGERS:
        yield f"and {len(outcome.triggers) - _SHOWN_TRIGGERS} more n-grams are tied to one rating"


def reasons(outcome: Outcome) -> list[Reason]:
    """Those that occur, in their order, without `kept`."""
    return [reason for reason, count in outcome.counts.items() if count and reason is not Reason.KEPT]


def _table(outcome: Outcome, name: str, key: Callable[[Decision], str]) -> Table:
    counted: dict[str, Counter[Reason]] = {}
    for decision in outcome.decisions:
        counted.setdefault(key(decision), Counter())[decision.reason] += 1
    shown = reasons(outcome)
    table = Table(title=f"by {name}", title_justify="left", show_footer=True)
    table.add_column(name, "all", no_wrap=True)
    totals = outcome.counts
    for heading, number in (("candidates", len(outcome.decisions)), ("kept", totals[Reason.KEPT])):
        table.add_column(heading, str(number), justify="right", no_wrap=True)
    for reason in shown:
        widest = max(map(len, reason.value.split()))  # lines end between words
        table.add_column(reason.value, str(totals[reason]), justify="right", min_width=widest)
    for value in sorted(counted):
        counts = counted[value]
        row = [counts.total(), counts[Reason.KEPT], *(counts[reason] for reason in shown)]
        table.add_row(value, *(str(number) if number else "-" for number in row))
    return table
