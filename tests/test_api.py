"""Mistakes in calls of the Python API are errors of the user's, with one clear text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import micota
from micota.errors import UserError

ROW = {"id": 1, "completion": "So 2.", "answer": "2"}


@pytest.mark.parametrize(("call", "expected"), [
    (lambda: micota.grade(["text"]), "row:1: str; accepted: rows"),  # type: ignore[list-item]
    (lambda: micota.grade([ROW, ROW]), "id '1' stands on line 1 too; accepted: ids that are unique"),
    (lambda: micota.grade([ROW], num_workers="2"), "num_workers='2'; accepted: a number above 0"),  # type: ignore[arg-type]
    (lambda: micota.merge("", "bundled:ta"), "base=''; accepted: a folder"),
    (lambda: micota.merge("nowhere/at all", "bundled:ta"), "nowhere/at all"),
    (lambda: micota.merge("bundled:ta", "bundled:ta", method="della", epsilon="x"), "merge.epsilon='x'; accepted"),  # type: ignore[arg-type]
    (lambda: micota.compose("student=tiny"), "is a text; accepted: a list of overrides, as ['student=tiny']"),
    (lambda: micota.train(["experiment=tiny", "plan=true"]), "plan=true: a function of Python makes an artifact"),
    (lambda: micota.compose(["student=nope"]), "student=nope: no such option"),
])  # fmt: skip
def test_a_mistake_is_one_clear_text(
    call: Callable[[], Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        call()
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.partial"))
