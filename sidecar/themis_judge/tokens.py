"""Prompts as token ids: static text and data tokenised apart and joined as ids.

Control tokens come from static text alone. The head is tokenised once per scenario and rubric, a conversation
once per group; the trainer builds its ids by the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass

from themis_judge.engines.base import Labels, Prompt, Tokenizer, Unsupported
from themis_judge.lru import LRU
from themis_judge.prompts import CUT_NOTE, Layout, Piece, Section

LABEL_END = "]]"
_HELD_TOKENS = 500_000  # about 20 MB of ids
_HELD_LABEL_SETS = 1024
_ENTRY_TOKENS = 64  # what an entry costs beside its ids


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt in ids, and how many tokens were cut to make it fit."""

    prompt: Prompt
    cut_tokens: int = 0


class Encoder:
    """Turns layouts into prompts with one tokenizer; without one, prompts carry text alone."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self.tokenizer = tokenizer
        self._static: LRU[str, tuple[int, ...]] = LRU(_HELD_TOKENS)
        self._sections: LRU[Section, tuple[int, ...]] = LRU(_HELD_TOKENS)
        self._labels: LRU[tuple[str, ...], Labels] = LRU(_HELD_LABEL_SETS)
        if tokenizer is not None:
            before, self._after = tokenizer.frame(("user",))
            self._before = Piece(before)

    def encode(self, layout: Layout) -> Prompt:
        """Segments as the layout's sections, the chat template's frame joined to the first and last one."""
        if self.tokenizer is None:
            return Prompt((), layout.text(), layout.answer_start)
        last = len(layout.sections) - 1
        sections = ((self._before, *layout.sections[0]), *layout.sections[1:])
        segments = [self._section(section, held=index != layout.response) for index, section in enumerate(sections)]
        segments[last] = (*segments[last], *self._answer(layout.answer_start))
        return Prompt(tuple(segments), layout.text(), layout.answer_start)

    def encode_cut(self, layout: Layout, section: int, excess: int, from_start: bool) -> Encoded | None:
        """The prompt with `excess` tokens or slightly more cut from one section's data, at its start or end;
        None if the section hasn't got them. Whole tokens go, and a note stands where they stood."""
        assert self.tokenizer is not None
        note = self.static(CUT_NOTE)
        pieces = [(self._piece(piece), piece.data) for piece in layout.sections[section]]
        order = range(len(pieces)) if from_start else range(len(pieces) - 1, -1, -1)
        left, cut = excess, 0
        remains = sum(len(ids) for ids, data in pieces if data)
        for index in order:
            ids, data = pieces[index]
            if left <= 0 or not data or not ids:
                continue
            gone = min(len(ids), left + len(note))
            kept = ids[gone:] if from_start else ids[: len(ids) - gone]
            mark = note if len(note) < gone else ()  # a note longer than what it stands for saves nothing
            pieces[index] = ((*mark, *kept) if from_start else (*kept, *mark), data)
            cut += gone
            left -= gone - len(mark)
            remains += len(kept) - len(ids)
        if left > 0 or remains <= 0:
            return None
        whole = self.encode(layout)
        segments = list(whole.segments)
        changed = tuple(token for ids, _ in pieces for token in ids)
        frame = len(segments[section]) - sum(len(self._piece(piece)) for piece in layout.sections[section])
        tail = segments[section][len(segments[section]) - frame :] if frame else ()
        segments[section] = (*changed, *tail)
        shown = [self.tokenizer.decode(ids) for ids, _ in pieces]
        texts = ["".join(piece.text for piece in part) for part in layout.sections]
        texts[section] = "".join(shown)
        return Encoded(Prompt(tuple(segments), "".join(texts), whole.answer_start), cut)

    def labels(self, texts: tuple[str, ...]) -> Labels:
        """Label sequences after the prompt's answer_start; the closing mark's first token is joined where one
        label's tokens begin another's, so that "1" is never taken for the start of "10"."""
        known = self._labels.get(texts)
        if known is None:
            known = self._make_labels(texts)
            self._labels.put(texts, known)
        return known

    def static(self, text: str) -> tuple[int, ...]:
        """Ids of trusted text."""
        ids = self._static.get(text)
        if ids is None:
            assert self.tokenizer is not None
            ids = tuple(self.tokenizer.control(text)) if text else ()
            self._static.put(text, ids, len(ids) + _ENTRY_TOKENS)
        return ids

    def tokens(self, text: str) -> int:
        """How many a trusted text takes; 0 without a tokenizer."""
        return 0 if self.tokenizer is None else len(self.static(text))

    def _answer(self, answer_start: str) -> tuple[int, ...]:
        return (*self.static(self._after), *self.static(answer_start))

    def _section(self, section: Section, held: bool) -> tuple[int, ...]:
        if not held:
            return self._join(section)
        ids = self._sections.get(section)
        if ids is None:
            ids = self._join(section)
            self._sections.put(section, ids, len(ids) + _ENTRY_TOKENS)
        return ids

    def _join(self, section: Section) -> tuple[int, ...]:
        ids: list[int] = []
        for piece in section:
            ids += self._piece(piece)
        return tuple(ids)

    def _piece(self, piece: Piece) -> tuple[int, ...]:
        if not piece.data:
            return self.static(piece.text)
        assert self.tokenizer is not None
        return tuple(self.tokenizer.data(piece.text))

    def _make_labels(self, texts: tuple[str, ...]) -> Labels:
        if self.tokenizer is None:
            return Labels(texts)
        sequences = [self.static(text) for text in texts]
        if any(a != b and b[: len(a)] == a for a in sequences for b in sequences):
            end = self.static(LABEL_END)[:1]
            sequences = [(*sequence, *end) for sequence in sequences]
        if len(set(sequences)) < len(sequences):
            raise Unsupported(f"the tokenizer does not tell these labels apart: {texts}")
        return Labels(texts, tuple(sequences))
