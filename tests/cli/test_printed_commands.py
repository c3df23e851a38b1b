"""Every printed command can be pasted: a shell splits it into words that the command accepts, and with which it makes
what the line was printed for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wrong_commands import refusal

from micota import graph
from micota.artifacts.manifest import read_manifest, remedy
from micota.artifacts.store import Store
from micota.cli import app
from micota.cli.arguments import read
from micota.config import SCHEMAS, Call, command_line
from micota.config.quoting import quoted_value
from micota.config.roles import as_typed
from micota.graph.node import AnyNode
from micota.runtime.plan import tasks_of
from micota.shell import shell_line
from micota.visible import inline_code

Composed = Callable[..., Any]
ODD = "a  b{c},d=e'f\"é$x`y`\\~#&;|*"
TARGETS: dict[str, Callable[[Any], list[AnyNode]]] = {
    "generate": lambda config: [graph.data(config, config.data)],
    "train": lambda config: [graph.trained(config, config.role)],
    "merge": lambda config: [graph.merged(config)],
    "evaluate": lambda config: graph.evaluation(config),
    "doctor": lambda config: [*graph.determinism(config, {}).values()],
}


def words_of(line: str) -> list[str]:
    """The words of a line, as bash splits it."""
    script = f"set -f; micota() {{ printf '%s\\0' \"$@\"; }}; {line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, env={"LC_ALL": "C.UTF-8"})
    assert not done.returncode and not done.stderr, done.stderr
    return done.stdout.decode().split("\0")[:-1]


def config_of(words: list[str], composed: Composed) -> Any:
    """The config of a command as it is typed."""
    import hydra

    command, *rest = words
    call, arguments = read(rest, as_script=False)
    overrides = [word for word in arguments if not word.startswith("--")]
    call.overrides = as_typed(overrides)
    return app.prepare(hydra.compose(command, overrides), SCHEMAS[command], call)


def check(words: list[str], composed: Composed) -> int:
    """Type every command that a plan prints for ``words``, and look for its nodes among those that it would make; the
    number of commands."""
    config = config_of(words, composed)
    tasks = tasks_of(graph.unique(TARGETS[words[0]](config)))
    for task in tasks:
        line = command_line(config.call, task.command, task.choose)
        again = config_of(words_of(line), composed)
        made = {node.folder for node in graph.unique(TARGETS[task.command](again))}
        assert {node.folder for node in task.nodes} <= made, line
        assert again.artifacts == config.artifacts
    return len(tasks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is a model, by its name a hard one."""
    (tmp_path / ODD).mkdir()
    (tmp_path / ODD / "config.json").write_text("{}")
    return tmp_path / ODD


def test_commands_of_a_plan_make_its_nodes(composed: Composed, folder: Path) -> None:
    odd = {
        "artifacts": str(folder), "prompt.template": f"{ODD}  ${{x}}\t{{problem}}\n", "teacher.path": str(folder),
        "prompt.system": "it's  ${nope}\u202e",
    }  # fmt: skip
    words = [
        "evaluate", "experiment=tiny", "data=micota", "tracker=none", "bench=[tiny_easy]",
        "teacher.thinking={open: '<think>', close: '</think>'}", "merge.weight=[{filter: mlp, value: 0.3}, {value: 1}]",
        "num_samples=2", "temperature=0.5", "+evaluation.num_samples_of.easy=3", "select.filters=[finished,correct]",
        *(f"{key}={quoted_value(value)}" for key, value in odd.items()),
    ]  # fmt: skip
    assert check(words, composed) == 6


@pytest.mark.parametrize("command", ["evaluate", "doctor"])
def test_commands_keep_the_model_that_is_no_role(composed: Composed, folder: Path, command: str) -> None:
    also = ["determinism=true", "audit.num_problems=3"] if command == "doctor" else []
    words = [command, "experiment=tiny", f"model.path={quoted_value(str(folder))}", "model.name=odd", *also]
    assert check(words, composed) == 1


@pytest.mark.parametrize("value", [ODD, "a b", "[", "{a", "it's", "x'\\", "日 本", "$x", "!", "(a)", "a=,b"])
def test_the_hint_of_a_value_that_cannot_be_read_is_read(value: str) -> None:
    line = refusal(shell_line(["train", "experiment=tiny", f"prompt.system={value}"]))
    hint = re.search(r"special signs in quotes: (.*)$", line)
    if hint is None:
        assert not line, line
        return
    [word] = words_of(f"micota {hint[1]}")
    assert not refusal(shell_line(["train", "experiment=tiny", word]))


def test_the_remedy_of_a_damaged_artifact_is_read(composed: Composed, folder: Path) -> None:
    store = Store(folder)
    [node] = graph.scores(composed("evaluate", "experiment=tiny", "bench=[tiny_easy]"), "student").values()
    with store.build(node, 0, command=Call().line("evaluate", [f"artifacts={quoted_value(str(folder))}"])) as build:
        assert build is not None
    manifest = read_manifest(store.path(node))
    _, line = remedy(store.path(node), manifest).split("again:  ")
    assert line.startswith("rm -r ") and words_of(line)[0] == "evaluate" and not store.path(node).exists()


def test_a_command_in_a_card_is_one_piece_of_code() -> None:
    for text, code in (("a b", "`a b`"), ("a `b` c", "``a `b` c``"), ("`a|b`", "`` `a\\|b` ``")):
        assert inline_code(text) == code
