"""Every kind of artifact with every kind of damage: all of it is noticed before the artifact is used."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from damages import OF_FILES, OF_MANIFESTS, edit, flip, flip_and_hide, zero
from rich.console import Console

import micota
from micota.artifacts import sums as sums_module
from micota.artifacts.manifest import Manifest, read_manifest, write_manifest
from micota.artifacts.store import Store
from micota.cli import artifacts as tool
from micota.config import Call
from micota.data.datacard import CARD, CARD_PAGE
from micota.errors import ArtifactError
from micota.graph import specs
from micota.graph.node import SCHEMA_VERSION, AnyNode, Node, Spec
from micota.graph.stage import all_stages, registered
from micota.merging import report as merging
from micota.records import (
    BPC,
    COMPLETIONS,
    DATA,
    FORECAST,
    POINTS,
    REPETITIONS,
    SCORES,
    SECONDS,
    TOKEN_SHIFTS,
)  # fmt: skip
from micota.runtime import execute
from micota.runtime.plan import Task
from micota.sft.targets import INDEX, file_of
from micota.stages.forecast import SKILL, TABLE
from micota.stages.grade import DISAGREEMENTS, SUMMARY
from micota.stages.merge_sweep import CHOICE, PAGE
from micota.stages.select import CONTAMINATION
from micota.stages.sweep_runner import ACTIVATIONS
from micota.tracking import NoRun

SOURCE = Path(micota.__file__).parent
COMMAND = "micota pipeline experiment=mine"
WEIGHTS = ["config.json", "model.safetensors"]
SHARDS = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
ROUND = ["rollouts/round=0.jsonl", "rollouts/round=0.sums.json"]
# By form: the stage that makes it, and its files, small and with other contents for each artifact.
FORMS: dict[str, tuple[str, list[str]]] = {
    "completions": ("generate", [COMPLETIONS]),
    "filtered data": ("select", [DATA, CARD, CARD_PAGE, CONTAMINATION]),
    "mixed or most likely data": ("select", [DATA]),
    "tuned model": ("train", [*WEIGHTS, "tokenizer.json"]),
    "adapter": ("train", [*WEIGHTS, "adapter/adapter_model.safetensors", "adapter/adapter_config.json"]),
    "steered round": ("train", [WEIGHTS[1]]),
    "model distilled on the student's answers": ("train", [WEIGHTS[1], *ROUND]),
    "models of single steps": ("train", [WEIGHTS[1], "models/step=2/model.safetensors", "models/step=2/.sums.json"]),
    "model to continue": ("train", [WEIGHTS[1], "checkpoints/step=4.ckpt", "checkpoints/step=4.ckpt.sums.json"]),
    "merged model": ("merge", [*SHARDS, merging.JSON]),
    "model merged by mergekit": ("mergekit", [*WEIGHTS, merging.JSON]),
    "merge sweep": ("merge_sweep", [POINTS, PAGE]),
    "calibration": ("merge_sweep", [POINTS, CHOICE, ACTIVATIONS]),
    "merge point": ("merge_sweep", [COMPLETIONS]),
    "scores": ("grade", [SCORES, SECONDS, SUMMARY, DISAGREEMENTS]),
    "likelihood": ("likelihood", [BPC]),
    "rank shift": ("rank_shift", [TOKEN_SHIFTS]),
    "determinism": ("determinism", [REPETITIONS]),
    "probabilities of a teacher": ("targets", [INDEX, file_of(Path(), 0).name]),
    "forecast": ("forecast", [FORECAST, TABLE, SKILL]),
}
KINDS = {"merge point": "merge_points"}  # of forms that are not of the first spec of their stage


def kind_of(form: str) -> str:
    stages = {stage.name: stage for stage in all_stages()}
    return KINDS.get(form, stages[FORMS[form][0]].specs[0].kind)


def nodes(form: str) -> tuple[AnyNode, AnyNode]:
    """Two nodes of one form."""
    names = {"stage": FORMS[form][0], "kind": kind_of(form), "__annotations__": {"value": "int"}}
    spec = dataclass(frozen=True, kw_only=True)(type("OfForm", (Spec,), names))
    first, second = (Node(name="item", spec=spec(value=value)) for value in (1, 2))
    return first, second


def make(store: Store, node: AnyNode, form: str) -> Path:
    with store.build(node, 0, command=COMMAND) as build:
        assert build is not None
        for name in FORMS[form][1]:
            (build.path / name).parent.mkdir(exist_ok=True, parents=True)
            (build.path / name).write_bytes(f"{name} of {node.key}\n".encode() * 50)
        build.metrics["accuracy"] = 0.5
    return store.path(node)


def cases() -> Iterator[tuple[str, str, str]]:
    for form, (_, names) in FORMS.items():
        for name in names:
            yield from ((form, damage, name) for damage in OF_FILES)
        yield from ((form, damage, names[0]) for damage in OF_MANIFESTS)


def test_every_stage_and_kind_of_artifact_is_tried() -> None:
    assert {stage for stage, _ in FORMS.values()} == registered() - {"source"}
    of_specs = {item.kind for item in vars(specs).values() if isinstance(getattr(item, "kind", None), str)}
    of_stages = {spec.kind for stage in all_stages() for spec in stage.specs}
    assert set(map(kind_of, FORMS)) == (of_specs | of_stages) - {"source"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artifacts of each form."""
    folder = tmp_path_factory.mktemp("made")
    for form in FORMS:
        for node in nodes(form):
            make(Store(folder / form), node, form)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_noticed_before_use(form: str, made: Path, tmp_path: Path) -> None:
    """The text names the file and the command that makes the artifact again, in one line."""
    first, second = nodes(form)
    unnoticed = []
    for number, (_, damage, name) in enumerate(case for case in cases() if case[0] == form):
        shutil.copytree(made / form, root := tmp_path / str(number))
        store = Store(root)
        path, other = store.verified(first), store.path(second)  # remembered: a second time is not the first
        (OF_FILES | OF_MANIFESTS)[damage](path, other, name)
        text = refusal(lambda root=root: Store(root).verified(first))
        wrong = (path / name).with_name("foreign.safetensors") if damage == "foreign" else path / name
        wanted = [str(wrong), f"rm -r {path} && {COMMAND}"] if damage in OF_FILES else [str(path)]
        if "\n" in text or not all(part in text for part in wanted):
            unnoticed.append(f"{damage} {name}: {text}")
    assert not unnoticed


def refusal(read: Callable[[], object]) -> str:
    """The text of the error about a damaged artifact; empty without one."""
    try:
        read()
    except ArtifactError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_begun_with_a_damaged_input(
    form: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the stage reads of it, and before the checks of the stage, which may read it too."""
    shutil.copytree(made / form, tmp_path, dirs_exist_ok=True)
    (child, _), store = nodes(form), Store(tmp_path)
    whole = Node(name="whole", spec=child.spec)
    make(store, whole, form)
    user = Node(name="user", spec=nodes("scores")[0].spec, inputs={"other": whole, "damaged": child})
    reached: list[str] = []
    monkeypatch.setattr(execute, "inspect_all", lambda *_: reached.append("check"))
    monkeypatch.setattr(execute, "run_stage", lambda work: reached.append("run"))
    flip(store.path(child), tmp_path, FORMS[form][1][-1])
    config: Any = SimpleNamespace(seed=0, name="mine", call=Call())
    task = Task("evaluate", {}, [user])
    text = refusal(lambda: execute.perform(config, store, task, Console(quiet=True), run=NoRun()))
    assert f"rm -r {store.path(child)} && {COMMAND}" in text and not reached
    assert not store.partial(user).exists()


READS = re.compile(r"(read|each)_\w+\((self\._|work\.)?store\.path\(|store\.path\([^()]*\) / (?!LOG)")


def test_nothing_reads_an_artifact_that_is_not_verified() -> None:
    """But the inputs of a stage by the runner, a reader takes store.verified(node)."""
    modules = [path for path in sorted(SOURCE.rglob("*.py")) if path.parent.name != "artifacts"]
    assert [path for path in modules if READS.search(path.read_text(encoding="utf-8"))] == []


def test_a_file_that_did_not_change_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = "tuned model"
    node, _ = nodes(form)
    path = make(Store(tmp_path), node, form)
    for file in path.rglob("*"):
        os.utime(file)
    waited = 10**12  # as if time had passed since
    now = sums_module.time.time_ns
    monkeypatch.setattr(sums_module.time, "time_ns", lambda: now() + waited)
    Store(tmp_path).verified(node)
    hashed: list[Path] = []
    monkeypatch.setattr(sums_module, "sha256", hashed.append)
    Store(tmp_path).verified(node)
    path.rename(path.with_name("moved"))
    path.with_name("moved").rename(path)
    Store(tmp_path).verified(node)
    assert not hashed


def test_a_change_within_a_tick_of_the_clock_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    monkeypatch.setattr(sums_module, "state_of", lambda path: (1, 1, sums_module.time.time_ns(), 10**30))
    first = sums_module.Sums(tmp_path).of(file)
    file.write_text("b")
    assert sums_module.Sums(tmp_path).of(file) != first


def test_remembered_sums_may_be_damaged_or_gone(tmp_path: Path) -> None:
    form = "likelihood"
    node, _ = nodes(form)
    make(Store(tmp_path), node, form)
    remembered = tmp_path / sums_module.REMEMBERED
    for content in (b"\xff\xfe[[", b'[[1, 2], "x"]\nnull\n[[1,2,3,4],"zz"]\n[[1,2,3,4],5]', b""):
        remembered.write_bytes(content)
        assert Store(tmp_path).verified(node)
    remembered.unlink()
    remembered.mkdir()  # nothing can be remembered
    assert Store(tmp_path).verified(node)


def test_a_manifest_of_an_earlier_version_has_no_sum(tmp_path: Path) -> None:
    form = "likelihood"
    node, _ = nodes(form)
    path = make(Store(tmp_path), node, form)
    edit(lambda content: content.pop("sum"))(path, path, "")
    assert Store(tmp_path).verified(node)
    flip(path, path, "bpc.jsonl")
    with pytest.raises(ArtifactError, match="SHA-256"):
        Store(tmp_path).verified(node)


def test_the_sum_of_a_manifest_holds_for_odd_values(tmp_path: Path) -> None:
    fields = {"schema_version": SCHEMA_VERSION, "stage": "s", "name": "é\ud800", "key": "k"}
    fields["config"] = {1: None, 2: [1e-320, 10**30]}
    counted = {"counts": {}, "metrics": {"loss": float("nan"), "best": float("-inf")}, "seed": 0, "seconds": 0.1}
    rest = {"versions": {}, "commit": None, "hardware": {}, "finished_at": "2026-01-01", "files": {}, "inputs": {}}
    (tmp_path / "wherever").mkdir()
    write_manifest(tmp_path / "wherever", Manifest(**fields, **counted, **rest))  # type: ignore[arg-type]
    assert read_manifest(tmp_path / "wherever").sum


def test_the_tool_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = "filtered data"
    node, other = nodes(form)
    path, _ = make(Store(tmp_path), node, form), make(Store(tmp_path), other, form)
    where = f"artifacts={tmp_path}"
    assert tool.run(["verify", where]) == 0
    assert "2 artifacts verified, 0 damaged" in capsys.readouterr().out
    flip_and_hide(path, path, "card.json")
    zero(path, path, "data.jsonl")
    assert tool.run(["verify", where, path.name]) == 2
    printed = capsys.readouterr().out
    assert all(str(path / name) in printed for name in ("card.json", "data.jsonl"))
    assert "1 artifacts verified, 1 damaged" in printed and f"rm -r {path} && {COMMAND}" in printed
    assert tool.run(["verify", where, "--json"]) == 2
    assert {folder: len(problems) for folder, problems in json.loads(capsys.readouterr().out).items()} == {
        node.folder: 2, other.folder: 0,
    }  # fmt: skip
