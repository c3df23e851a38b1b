"""A mistake of the user's is one line and exit code 2; a bug, in whatever process, shows its traceback."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fork_server
import pytest
from conftest import SMALL, case_of

from micota import errors, graph
from micota.artifacts.store import Store
from micota.errors import ChildError, StageError, UserError, failure, is_users
from micota.graph.stage import registered

Composed = Callable[..., Any]
EVERYTHING = [
    "compare.recipes=[strong,micota]",
    "compare.measures=[teacher,merges,scores,bpc,rank_shift,merge_sweep]",
]
# A module that every process of a pipeline imports, since it is the home of a stage: there the bug is planted.
PLANTED = """
from dataclasses import replace
from micota.graph import stage
import micota.stages.registry

name = "STAGE"
stage._stages[name] = replace(stage._stages[name], run="planted:run_with_a_bug", module="planted")

def run_with_a_bug(work):
    raise ValueError(f"planted in {work.node.stage}")
"""
MAIN = """
import sys
import planted
from micota.cli.app import main

if __name__ == "__main__":
    main(["pipeline", *sys.argv[1:]])
"""
STAGES = sorted(registered() - {"source"})
CASES = [
    pytest.param(name, runner, marks=[] if name == "train" else [pytest.mark.slow])  # each takes some seconds
    for name in STAGES
    for runner in ("inprocess", "workers")
]


@pytest.mark.parametrize(("name", "runner"), CASES)
def test_a_bug_in_a_stage_shows_its_traceback(composed: Composed, tmp_path: Path, name: str, runner: str) -> None:
    overrides = [*SMALL, *EVERYTHING]
    recipes = [composed("generate", *overrides, f"data={recipe}") for recipe in ("strong", "micota")]
    store = Store(tmp_path / "artifacts")
    for node in graph.unique(graph.experiment([case_of(recipes)]).targets()):
        if all(above.stage != name for above in node.walk()):  # what the stage needs is there, for what it is worth
            with store.build(node, seed=0):
                pass
    (tmp_path / "planted.py").write_text(PLANTED.replace("STAGE", name))
    (tmp_path / "main.py").write_text(MAIN)
    arguments = [*overrides, f"runner={runner}", "artifacts=artifacts"]
    finished = fork_server.run(str(tmp_path / "main.py"), arguments, os.environ, cwd=tmp_path)
    assert finished.returncode == 1, finished.stderr
    assert "Traceback (most recent call last)" in finished.stderr
    assert "in run_with_a_bug" in finished.stderr and f"ValueError: planted in {name}" in finished.stderr


@pytest.mark.parametrize("kind", UserError.__subclasses__())
def test_users_errors_pass_between_processes(kind: type[UserError]) -> None:
    again = pickle.loads(pickle.dumps(kind("key=1; accepted: 2")))
    assert type(again) is kind and str(again) == "key=1; accepted: 2" and is_users(again)


REMEDY = re.compile(
    r"accepted|\b(use|set|delete|choose|lower|raise|add|run|free|install|fetch|copy|change|compare|rename|start|try|upload|"
    r"make|go on|log in|names the examples)\b", re.IGNORECASE
)  # fmt: skip
MISTAKES = {"ConfigError", "SourceError", "ArtifactError", "ModelError", "ExportError"}


def texts(module: Path) -> Iterator[tuple[int, ast.JoinedStr | ast.Constant]]:
    """The literal texts of errors about what a user gave, with their lines: of errors that are raised, and of conflicts
    of settings."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in MISTAKES and call.args:
            values = [call.args[0]]
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("conflicts"):
            values = [item.value for item in ast.walk(node) if isinstance(item, ast.Yield) and item.value is not None]
        else:
            continue
        yield from ((value.lineno, value) for value in values if isinstance(value, ast.JoinedStr | ast.Constant))


def test_every_text_about_what_a_user_gave_has_the_accepted_form_or_a_remedy() -> None:
    """A text that ends in a value has it there, as the words of a table."""
    vague = []
    for module in sorted(Path(errors.__file__).parent.rglob("*.py")):
        for line, text in texts(module):
            words = " ".join(
                item.value for item in ast.walk(text) if isinstance(item, ast.Constant) and isinstance(item.value, str)
            )
            ends_in_value = isinstance(text, ast.JoinedStr) and isinstance(text.values[-1], ast.FormattedValue)
            if not REMEDY.search(words) and not ends_in_value and "; {" not in ast.unparse(text):
                vague.append(f"{module}:{line}: {words}")
    assert not vague, "\n".join(vague)


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), OSError("no"), ChildError("no"), MemoryError()])
def test_other_errors_are_bugs(error: Exception) -> None:
    assert not is_users(error)


def test_the_error_of_a_full_disk_names_a_remedy() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert is_users(error) and "artifacts=FOLDER" in errors.text_of(error)


@pytest.mark.parametrize(("code", "printed", "kind", "text"), [
    (2, "a note\nerror: x=1; accepted: 2\n", StageError, "train failed: error: x=1; accepted: 2"),
    (1, "Traceback\n  line\nValueError: no\n", ChildError, "train ended with exit code 1:\nTraceback\n  line"),
    (1, "error: of a library\nTraceback\nKeyError: no\n", ChildError, "error: of a library\nTraceback\nKeyError: no"),
    (-9, "", StageError, "train was killed by signal 9"),
    (137, "", StageError, "train was killed by signal 9"),
    (-11, "Fatal Python error", ChildError, "train was ended by signal 11 (SIGSEGV):\nFatal Python error"),
])  # fmt: skip
def test_the_exit_code_of_a_process_tells_user_errors_from_bugs(
    code: int, printed: str, kind: type[Exception], text: str
) -> None:
    error = failure("train", code, printed)
    assert type(error) is kind and text in str(error)
