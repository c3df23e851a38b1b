"""Scores in files: what depends on the answers alone, and beside it the times of the answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from micota.artifacts.jsonl import each_jsonl, write_jsonl, write_text
from micota.records import SCORES, SECONDS, Score

Votes = dict[str, bool | None]  # by grader
_VOTES: dict[tuple[tuple[str, bool | None], ...], Votes] = {}  # few, and the same in many rows


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Write ``scores.jsonl``, which is the same whenever it is made, and beside it the seconds of its rows."""
    write_jsonl(folder / SCORES, (replace(score, seconds=None) for score in scores))
    write_text(folder / SECONDS, json.dumps([score.seconds for score in scores]) + "\n")


def read_scores(folder: Path) -> list[Score]:
    """The scores of a folder, with seconds where they are stored."""
    return list(each_score(folder))


def each_score(folder: Path) -> Iterator[Score]:
    """Yield the scores of a folder one at a time, with seconds where they are stored."""
    scores, file = each_jsonl(folder / SCORES, Score), folder / SECONDS
    times = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else repeat(None)
    for score, time in zip(scores, times, strict=file.is_file()):
        yield compact(replace(score, seconds=time))


def compact(score: Score) -> Score:
    """The same score, which shares what many scores have in common with them."""
    votes = _VOTES.setdefault(tuple(score.graders.items()), score.graders)
    return replace(
        score,
        graders=votes,
        reason=sys.intern(score.reason),
        grader=sys.intern(score.grader),
        finish_reason=sys.intern(score.finish_reason),
    )
