"""Keeps the small model to the form that one of the pipeline's prompts asks for; a model of ordinary size needs none.

The forms bound lengths too: without them it writes on until it is cut short. They promise no sense.
"""

from __future__ import annotations

from themis_judge.prompts import PAIR_START
from themis_pipeline.stages.question import titles
from themis_pipeline.stages.quiz import ANSWER, MATERIAL, QUESTION
from themis_pipeline.stages.sections import heading

# Counted in words, and in characters in the last one alone: counting makes each token's mask dear.
_SENTENCE = r"""
sentence ::= [A-Z] word? (" " word){3,11} " " [a-zA-Z0-9]{1,10} [.?!]
word ::= [^ \[\]{}=\n.?!",:;()%~/0-9]+ | [0-9]{1,4}
"""
_QUIZ = rf'"{heading(QUESTION)}\n" sentence (" " sentence)? "\n{heading(ANSWER)}\n" sentence'
_POINT = r'"- " sentence " {" [0-5] "} [[" [1-5] "]]\n"'

ANSWER_FORM = f'root ::= sentence (" " sentence)?{_SENTENCE}'
PAIR_FORM = f'root ::= "{PAIR_START}" [ABC] "]]\\n"'
SINGLE_FORM = (
    rf'root ::= "Overall rating (1 to 5): [[" [1-5] "]]\nStrengths:\n" {_POINT} "Shortcomings:\n" {_POINT}{_SENTENCE}'
)
QUESTION_FORM = rf'root ::= "{heading(titles(1)[0])}\n" sentence{_SENTENCE}'
QUIZ_FORM = f"root ::= {_QUIZ}{_SENTENCE}"
READING_FORM = rf'root ::= "{heading(MATERIAL)}\n" sentence (" " sentence){{1,3}} "\n" {_QUIZ}{_SENTENCE}'

# What a prompt says that asks for the form; the first that fits holds.
_SIGNS = (
    ('"Better response:"', PAIR_FORM),
    ('"Overall rating (1 to 5):"', SINGLE_FORM),
    (heading(titles(1)[0]), QUESTION_FORM),
    (heading(MATERIAL), READING_FORM),
    (heading(QUESTION), QUIZ_FORM),
)


def form_for(prompt: str) -> str:
    """An EBNF grammar for the answer."""
    return next((form for sign, form in _SIGNS if sign in prompt), ANSWER_FORM)
