"""Quality gates on instructions: which are kept, and why the others aren't. Each rejection has a code to count by.

The gates look at form only. They let doubtful ones through: the teacher and people see those, while what is dropped
here nobody sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

Detector = Callable[[str], "Detected"]


class Code(str, Enum):
    EMPTY = "empty"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    CONTROL_CHARACTERS = "control_characters"
    LANGUAGE = "language"
    UNFINISHED = "unfinished"
    PLACEHOLDER = "placeholder"
    UNSEEN_MATERIAL = "unseen_material"
    MISSING_TEXT = "missing_text"
    NOT_TEXT = "not_text"
    LIVE_DATA = "live_data"
    WRITERS_REMARK = "writers_remark"
    ANSWER_FAILS_TEST = "answer_fails_test"
    EMPTY_TEST = "empty_test"


@dataclass(frozen=True, slots=True)
class Detected:
    """A language as a two-letter code, and how sure that is, in [0, 1]."""

    language: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """reason: for people; holds nothing of the instruction."""

    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class GateSettings:
    """languages: those that are kept; empty keeps all. min_confidence: below it a detection rejects nothing.
    min_text_words: what translation and rewriting have to bring along, beside the directive."""

    languages: frozenset[str] = frozenset({"en"})
    min_confidence: float = 0.8
    min_chars: int = 12
    max_chars: int = 8000
    min_detect_chars: int = 40
    min_text_words: int = 4


BRING_A_TEXT = frozenset({"translation", "rewriting"})
MANY_LANGUAGES = frozenset({"translation"})
CODE = frozenset({"programming"})
TIMELESS = (
    CODE
    | {"creative_writing", "professional_writing", "reading_comprehension", "rewriting", "role_play"}
    | BRING_A_TEXT
)
"""Where "today's date" is something to write of, and not to know."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_PLACEHOLDER = re.compile(
    r"\[(?:insert|your|name|text|topic|link|company|date|paste|add)\b[^\]\n]{0,60}\]|<(?:insert|your)\b[^>\n]{0,60}>"
    r"|\{\{[^}\n]{0,60}\}\}|\blorem ipsum\b|(?-i:\bTODO\b)",
    re.IGNORECASE,
)
_UNSEEN = re.compile(
    r"\b(?:(?:according to|based on|mentioned in|described in) the (?:given |provided |above )?(?:reference(?: text)?|"
    r"passage|article|excerpt|document|text)|(?:in|from|using) the (?:(?:given|provided|above) (?:article|document|"
    r"text)|passage|excerpt|reference text)|the (?:reference text|text provided|passage above|(?:text|article) above)|"
    r"as (?:stated|mentioned) above)\b",
    re.IGNORECASE,
)
_NOT_TEXT = re.compile(
    r"\b(?:attached|uploaded|enclosed)\b.{0,30}\b(?:image|photo|picture|file|video|audio|spreadsheet|pdf)\b|\b(?:image|"
    r"photo|picture|diagram|chart|video|recording) (?:above|below)\b|\b(?:open|visit|click) (?:the|this) link\b",
    re.IGNORECASE,
)
_LIVE = re.compile(
    r"\b(?:what (?:time|day|date) is it(?: now| right now| today)?(?=\s*\?|\s*$)|today's (?:weather|news|date|"
    r"headlines)|weather (?:today|tomorrow|right now)|current(?:ly)? (?:share|stock) price|latest news|right now in "
    r"the news)\b",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"^(?:here (?:is|are)\b.{0,40}\binstructions?\b|sure[,!]|certainly[,!]|as an ai(?: language)? (?:model|"
    r"assistant)\b|instruction \d+\s*[:.]|i (?:can't|cannot|can not|am unable to) (?:(?:help|assist) with (?:that|"
    r"this)|(?:create|write|provide) (?:that|this|such|an? instruction|instructions))\b)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|«([^»]+)»')
# No prepositions: "What is this good for" is a whole question.
_OPEN_END = re.compile(r"(?:[,;(\[{]|\b(?:and|or|the|a|an|because))$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gates found. rejection: None for an instruction that is kept; language: empty where nobody asked, or
    the detector isn't sure."""

    rejection: Rejection | None
    language: str = ""


@dataclass(frozen=True, slots=True)
class Gates:
    """detect: a language detector, passed in."""

    settings: GateSettings
    detect: Detector

    def look(self, instruction: str, scenario: str, brings_material: bool = False, by_people: bool = False) -> Seen:
        """brings_material: whether the instruction holds the text that it speaks of, as in reading comprehension.
        by_people: they don't slip out of a part as models do."""
        text = instruction.strip()
        found = self._form(text) or self._answerable(text, scenario, brings_material, by_people)
        if found is not None:
            return Seen(found)
        settings = self.settings
        if len(text) < settings.min_detect_chars:
            return Seen(None)
        detected = self.detect(text)
        if detected.confidence < settings.min_confidence:
            return Seen(None)
        free = not settings.languages or scenario in MANY_LANGUAGES
        if free or detected.language in settings.languages:
            return Seen(None, detected.language)
        return Seen(Rejection(Code.LANGUAGE, f"is in another language ({detected.language})"), detected.language)

    def _form(self, text: str) -> Rejection | None:
        if not text:
            return Rejection(Code.EMPTY, "holds nothing")
        if len(text) < self.settings.min_chars:
            return Rejection(Code.TOO_SHORT, f"has {len(text)} characters, fewer than {self.settings.min_chars}")
        if len(text) > self.settings.max_chars:
            return Rejection(Code.TOO_LONG, f"has {len(text)} characters, more than {self.settings.max_chars}")
        if _CONTROL.search(text):
            return Rejection(Code.CONTROL_CHARACTERS, "holds characters that are no text")
        if text.count("```") % 2:
            return Rejection(Code.UNFINISHED, "opens a block of code and doesn't close it")
        return None

    def _answerable(self, text: str, scenario: str, brings_material: bool, by_people: bool) -> Rejection | None:
        if not by_people and _REMARK.search(text):
            return Rejection(Code.WRITERS_REMARK, "speaks as the model that wrote it")
        if scenario not in CODE and _PLACEHOLDER.search(text):  # in code it is a list, a template, a note
            return Rejection(Code.PLACEHOLDER, "holds a placeholder")
        if _NOT_TEXT.search(text):
            return Rejection(Code.NOT_TEXT, "needs something that is not text")
        if scenario not in TIMELESS and _LIVE.search(text):
            return Rejection(Code.LIVE_DATA, "needs what is true at the moment of asking")
        if _OPEN_END.search(text):
            return Rejection(Code.UNFINISHED, "stops in the middle")
        if brings_material:
            return None
        if scenario not in BRING_A_TEXT and _UNSEEN.search(text):
            return Rejection(Code.UNSEEN_MATERIAL, "speaks of a text that it doesn't hold")
        if scenario in BRING_A_TEXT and words(brought_text(text)) < self.settings.min_text_words:
            return Rejection(Code.MISSING_TEXT, "doesn't hold the text that it wants changed")
        return None


def brought_text(text: str) -> str:
    """What an instruction holds beside its directive: below its first line, after a colon, or in quotation marks."""
    first, newline, rest = text.partition("\n")
    if newline and rest.strip():
        return rest.strip()
    after = first.partition(": ")[2].strip()
    quoted = " ".join("".join(groups) for groups in _QUOTED.findall(first))
    # A directive that needs no quotation ("how would you say that ...") is its own text.
    said = re.search(r"\bsay\b.+?\b(?:that|to)\b(?P<rest>.+)", first, re.IGNORECASE)
    return max((after, quoted, said["rest"] if said else ""), key=len)


def words(text: str) -> int:
    """Words, where scripts without spaces count two characters as one."""
    unspaced = sum("\u3040" <= char <= "\u9fff" for char in text)
    return len(re.findall(r"\w+", re.sub(r"[\u3040-\u9fff]", " ", text))) + (unspaced + 1) // 2
