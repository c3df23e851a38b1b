"""An overridden path drops what the option says of the path it replaces, on the command line and in a user's YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest

from micota import graph
from micota.cli import app
from micota.config import SCHEMAS, Call, arguments_for

Composed = Callable[..., Any]


@pytest.mark.parametrize("role", ["teacher", "ta", "student", "large", "small"])
def test_models(composed: Composed, role: str) -> None:
    plain = getattr(composed("train", "experiment=tiny"), role)
    other = getattr(composed("train", "experiment=tiny", f"{role}.path=Qwen/Other-1B"), role)
    assert (plain.revision is None, plain.name.startswith("tiny")) == (False, True)
    assert (other.path, other.revision, other.name) == ("Qwen/Other-1B", None, "Other-1B")
    assert (other.sampling, other.sft, other.thinking) == (plain.sampling, plain.sft, plain.thinking)


def test_what_is_given_with_a_path_stays(composed: Composed) -> None:
    given = composed("train", "student=tiny", "student.path=a/b", "student.revision=v1", "student.name=mine").student
    assert (given.path, given.revision, given.name) == ("a/b", "v1", "mine")
    same = composed("train", "student=tiny", "student.path=bundled:student").student
    assert (same.name, same.revision is None) == ("tiny_student", False)
    assert composed("train", "student=tiny_lora").student.name == "tiny_lora"


def test_bases_and_other_models(composed: Composed) -> None:
    base = composed("merge", "merge=dare_ties_pretrained", "merge.base.path=a/base").merge.base
    assert (base.name, base.revision) == ("base", None)
    other = composed("evaluate", "model=qwen7b", "model.path=a/mine").model
    assert (other.name, other.revision) == ("mine", None)


def test_problems_and_benchmarks(composed: Composed) -> None:
    config = composed("train", "experiment=tiny", "problems.limit=7", "problems.path=a/sums", "problems.split=test")
    problems = config.problems
    assert (problems.name, problems.id_column, problems.num_rows, problems.limit) == ("sums", None, None, 7)
    assert problems.split == "test"
    bench = composed("evaluate", "bench=[gsm8k]", "bench.gsm8k.path=a/b", "bench.gsm8k.problem_column=text").bench
    gsm8k = bench["gsm8k"]
    assert (gsm8k.path, gsm8k.revision, gsm8k.subset, gsm8k.split) == ("a/b", None, None, "train")
    assert (gsm8k.problem_column, gsm8k.answer_after, gsm8k.answer_type) == ("text", None, "auto")
    checked = composed("train", "bench@decontaminate_against=[gsm8k]", "decontaminate_against.gsm8k.path=a/b")
    assert checked.decontaminate_against["gsm8k"].subset is None
    assert checked.bench["gsm8k"].subset == "main"


@pytest.mark.parametrize("recipe", ["instruct", "micota"])
def test_rows_of_your_own(composed: Composed, tmp_path: Path, recipe: str) -> None:
    (tmp_path / "my rows.jsonl").write_text("")
    overrides = [f"data={recipe}", f"data.path='{tmp_path / 'my rows.jsonl'}'"]
    config = composed("train", *overrides)
    assert (config.data.name, config.data.generator) == ("my-rows", "none")
    node = graph.trained(config, "student")
    assert node.name == f"{config.student.name}+my-rows" and not node.inputs["data"].inputs
    # The command that is printed leads to the same node.
    again = composed("train", *arguments_for(overrides, node.choose))
    assert graph.trained(again, "student").folder == node.folder


def test_the_order_of_overrides_does_not_matter(composed: Composed, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    overrides = [f"data.path={tmp_path / 'rows.jsonl'}", "data.name=mine"]
    for given in (overrides, overrides[::-1]):
        config = composed("generate", *given)
        node = graph.data(config, config.data)
        assert (config.data.name, node.name, node.choose) == ("mine", "mine", {"data": "micota"})
    renamed = composed("generate", "data=strong", "data.name=mine")
    assert graph.data(renamed, renamed.data).choose == {"data": "strong"}


def test_rows_among_matched_recipes(composed: Composed, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("")
    own = ["data=strong", f"data.path={tmp_path / 'mine.jsonl'}"]
    match = ["select.match=problems", f"compare.recipes=[micota, {{mine: {own}}}]"]
    config = composed("generate", *own, *match)
    assert list(graph.data(config, config.data).inputs) == ["micota", "mine"]


def test_in_yaml_of_the_user(tmp_path: Path) -> None:
    for name, content in {
        "experiment/mine": "# @package _global_\nstudent: {path: a/b}\nbench: {gsm8k: {path: c/d, id_column: id}}\n",
        "student/own": "defaults: [tiny, _self_]\npath: e/f\n",
        "bench/columns": "both: {problem_column: text}\n",
        "bench/ours": "defaults: [columns, _self_]\nboth: {path: g/h}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(content)

    def composed(*overrides: str) -> Any:
        words = [*overrides, f"hydra.searchpath=[file://{tmp_path}]"]
        return app.prepare(hydra.compose("train", words), SCHEMAS["train"], Call(overrides=words))

    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        mine = composed("experiment=mine", "student=tiny", "bench=[gsm8k]")
        own = composed("student=own", "bench=[ours]")
    assert (mine.student.name, mine.student.revision) == ("b", None)
    assert (mine.bench["gsm8k"].id_column, mine.bench["gsm8k"].subset) == ("id", None)
    assert (own.student.name, own.student.revision, own.student.sft.learning_rate) == ("f", None, 1e-3)
    assert own.bench["both"].problem_column == "text", "no path was replaced"
