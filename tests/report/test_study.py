"""Frames and answers for notebooks, from a synthetic world."""

from __future__ import annotations

import pytest
from synthetic_store import HOSTILE

from micota.artifacts.store import Store
from micota.config import Call
from micota.report.collect import CaseReport
from micota.report.study import lineage_frame, merges_frame, outcomes_frame, shifts_frame, side_by_side, trials_frame

Finished = tuple[Store, CaseReport]


def test_frames_hold_the_numbers_of_the_summary(finished: Finished) -> None:
    _, case = finished
    merges = merges_frame(case.summary)
    assert merges.weight.tolist() == sorted(case.summary.curve) and merges.low.le(merges.accuracy).all()
    trials = trials_frame(case.summary)
    assert set(trials.seed) == {0, 1} and set(trials.recipe) == {recipe.name for recipe in case.summary.recipes} - {
        "instruct"
    }
    with pytest.raises(ValueError, match=r"token shifts of 'micota'; accepted: none was measured"):
        shifts_frame(case.summary, "micota")


def test_answers_stand_side_by_side_marked_and_harmless(finished: Finished) -> None:
    store, case = finished
    outcomes = outcomes_frame(store, case, "easy")
    assert len(outcomes) == 12 and {"instruct", "micota", "teacher"} <= set(outcomes.columns)
    pages = [side_by_side(store, case, "easy", number) for number in range(12)]
    assert all("<mark>Wait</mark>" in page and "micota" in page for page in pages)
    assert not any(HOSTILE in page or "<script>" in page for page in pages)
    assert any("&lt;/script&gt;" in page for page in pages)
    with pytest.raises(ValueError, match="problem 12 of easy; accepted: 0 to 11"):
        side_by_side(store, case, "easy", 12)
    with pytest.raises(ValueError, match="benchmark 'gsm8k'; accepted: easy, medium, hard"):
        outcomes_frame(store, case, "gsm8k")


def test_lineage_leads_to_the_teacher(finished: Finished) -> None:
    store, case = finished
    lineage = lineage_frame(store, case, "micota", Call(overrides=["experiment=tiny"]))
    assert lineage.artifact[0].startswith("scores/") and lineage.artifact.str.startswith("source/tiny_teacher-").any()
    assert lineage.command[0] == "micota evaluate data=micota experiment=tiny seed=0"
    with pytest.raises(ValueError, match="lineage of 'none'; accepted: instruct, "):
        lineage_frame(store, case, "none", Call())
