"""Extract the final answer from a completion."""

from __future__ import annotations

import re
from typing import NamedTuple

from micota.grading.extraction.evidence import EVIDENCE, Text
from micota.grading.extraction.marks import MARKS, Wanted
from micota.grading.reading.characters import END_OF_TURN, repaired

_THOUGHT = re.compile(r"</(?:think|thinking|thought|thoughts|reasoning)>|<\|end_of_thought\|>|◁/think▷")
_NEXT_PROBLEM = re.compile(
    r"\n[ \t]*(?:(?:Problem|Question|Exercise|Q|Human|User|Instruction)\s*\d*\s*:|"
    r"<\|(?:im_start|start_header_id|user)\|>|###\s*(?:Problem|Question|Instruction)\b)"
)


class Extraction(NamedTuple):
    """The final answers of a completion, verbatim: none, one, or several that may differ; and where they stand."""

    answers: tuple[str, ...]
    evidence: str

    @property
    def text(self) -> str | None:
        """The answers as one text for people."""
        return " | ".join(self.answers) or None


NOTHING = Extraction((), "no_answer")


def extract(completion: str, wanted: Wanted) -> Extraction:
    """The final answer by the first kind of ``EVIDENCE`` that has one. Behind ``</think>`` only what follows counts, if
    it holds an answer."""
    text = _own_part(repaired(completion))
    is_likely = "<" in text or "◁" in text  # cheaper than the pattern
    *_, mark = (None, *_THOUGHT.finditer(text)) if is_likely else (None,)
    if mark:
        thought, rest = text[: mark.start()], text[mark.end() :]
        found = _first(rest, wanted)
        return found if found.answers else _first(thought, wanted, is_over=True)
    return _first(text, wanted)


def _own_part(text: str) -> str:
    """The completion up to the token that ends its turn, or to a next problem that it makes up behind its answer."""
    end = END_OF_TURN.search(text)
    if end and text[: end.start()].strip():
        text = text[: end.start()]
    following = _NEXT_PROBLEM.search(text)
    if following and following.start() > 0:
        head = text[: following.start()]
        if "\\boxed" in head or any(mark.pattern.search(head, max(0, len(head) - 4_000)) for mark in MARKS):
            return head
    return text


def _first(text: str, wanted: Wanted, *, is_over: bool = False) -> Extraction:
    prepared = Text(text, wanted)
    for evidence in EVIDENCE:
        if is_over and evidence.is_weak:
            continue
        answers = evidence.find(prepared)
        if answers is not None:
            kept = tuple(answer.strip() for answer in answers if answer.strip())
            return Extraction(kept, evidence.name)
    return NOTHING
