"""Scores in files: what depends on the answers alone, and beside it the times of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from micota.artifacts.jsonl import read_jsonl, write_jsonl, write_text
from micota.records import SCORES, SECONDS, Score


def without_seconds(scores: Iterable[Score]) -> list[Score]:
    """The scores without times: what depends on the answers alone."""
    return [replace(score, seconds=None) for score in scores]


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Write ``scores.jsonl``, which is the same whenever it is made, and beside it the seconds of its rows."""
    write_jsonl(folder / SCORES, without_seconds(scores))
    write_text(folder / SECONDS, json.dumps([score.seconds for score in scores]) + "\n")


def read_scores(folder: Path) -> list[Score]:
    """The scores of a folder, with seconds where they are stored."""
    scores, file = read_jsonl(folder / SCORES, Score), folder / SECONDS
    if not file.is_file():
        return scores
    times = json.loads(file.read_text(encoding="utf-8"))
    return [replace(score, seconds=time) for score, time in zip(scores, times, strict=True)]
