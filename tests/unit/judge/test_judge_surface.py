"""What others build on: names and signatures change by intent alone."""

from __future__ import annotations

import inspect
import subprocess
import sys

import themis_judge
from themis_judge import Judge

NAMES = [
    "Comparison", "CriteriaMode", "Criterion", "CritiqueMode", "FinishReason", "Item", "Judge", "JudgeSettings",
    "JudgeVersion", "Message", "Options", "Orders", "RatingMode", "Reasoning", "ReasoningMode", "ReasoningPolicy",
    "Response", "Result", "Rubric", "Scenario", "Status", "Text", "ToolCall", "ToolResult", "Truncation",
    "load_scenarios",
]  # fmt: skip
METHODS = {
    "__init__": "(engine: 'Engine', scenarios: 'Mapping[str, Scenario] | None' = None, "
    "settings: 'JudgeSettings | None' = None, version_id: 'str | None' = None) -> 'None'",
    "background": "() -> 'Judge'",
    "classify_one": "(messages: 'tuple[Message, ...]', deadline: 'Deadline' = Deadline(at_s=inf)) -> 'Classification'",
    "compare_one": "(comparison: 'Comparison', orders: 'Orders' = <Orders.BOTH: 1>, "
    "reasoning_policy: 'ReasoningPolicy' = <ReasoningPolicy.STRIP: 1>, return_prompt: 'bool' = False, "
    "deadline: 'Deadline' = Deadline(at_s=inf)) -> 'CompareResult'",
    "cost": "(item: 'Item | Comparison | tuple[Message, ...]', options: 'Options | None' = None) -> 'int'",
    "difficulty_one": "(prompt: 'Item | tuple[Message, ...]', answer: 'str', return_tokens: 'bool' = False, "
    "deadline: 'Deadline' = Deadline(at_s=inf)) -> 'Difficulty'",
    "load": "() -> 'None'",
    "score": "(items: 'Sequence[Item]', options: 'Options | None' = None) -> 'list[Result]'",
    "score_all": "(items: 'Sequence[Item]', options: 'Options | None' = None, "
    "deadline: 'Deadline' = Deadline(at_s=inf)) -> 'list[Result]'",
    "score_one": "(item: 'Item', options: 'Options | None' = None, "
    "deadline: 'Deadline' = Deadline(at_s=inf)) -> 'Result'",
    "unload": "() -> 'None'",
}
PROPERTIES = {"asker", "version"}
SYNCHRONOUS = {"__init__", "background", "cost", "score"}
HEAVY = ("torch", "transformers", "httpx", "grpc", "numpy", "xgrammar", "tokenizers", "jinja2")


def test_the_packages_names() -> None:
    assert themis_judge.__all__ == NAMES
    assert all(hasattr(themis_judge, name) for name in NAMES)


def test_the_judges_methods() -> None:
    found = {
        name: str(inspect.signature(value)).replace("(self, ", "(").replace("(self)", "()")
        for name, value in vars(Judge).items()
        if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_"))
    }
    assert found == METHODS


def test_which_of_them_are_awaited() -> None:
    waiting = {name for name in METHODS if inspect.iscoroutinefunction(getattr(Judge, name))}
    assert waiting == set(METHODS) - SYNCHRONOUS


def test_the_judges_properties() -> None:
    public = {name for name, value in vars(Judge).items() if isinstance(value, property) and not name.startswith("_")}
    assert public == PROPERTIES


def test_importing_it_loads_nothing_heavy() -> None:
    code = f"import sys, themis_judge; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
