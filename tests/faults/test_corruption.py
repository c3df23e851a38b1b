"""Every kind of artifact with every kind of damage: all of it is noticed before the artifact is used."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import micota
from micota.artifacts import sums as sums_module
from micota.artifacts.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from micota.artifacts.store import Store
from micota.cli import artifacts as tool
from micota.errors import ArtifactError
from micota.graph import specs
from micota.graph.node import SCHEMA_VERSION, AnyNode, Node, Spec

SOURCE = Path(micota.__file__).parent
COMMAND = "micota pipeline experiment=mine"
# The files of each kind, small and with other contents for each artifact.
FILES = {
    "completions": ["completions.jsonl"],
    "data": ["data.jsonl", "card.json"],
    "models": ["config.json", "model.safetensors", "adapter/adapter_model.safetensors"],
    "scores": ["scores.jsonl", "seconds.json"],
    "bpc": ["bpc.jsonl"],
    "rank_shifts": ["token_shifts.jsonl"],
    "merge_sweeps": ["points.jsonl", "choice.json"],
    "merge_points": ["completions.jsonl"],
    "determinism": ["repetitions.jsonl"],
    "forecasts": ["forecast.jsonl", "outcomes.csv", "skill.json"],
}
Damage = Callable[[Path, Path, str], None]  # of an artifact, given another one and the name of a file


def nodes(kind: str) -> tuple[AnyNode, AnyNode]:
    """Two nodes of one kind."""
    of_kind = type("OfKind", (Spec,), {"stage": "none", "kind": kind, "__annotations__": {"value": "int"}})
    spec = dataclass(frozen=True, kw_only=True)(of_kind)
    first, second = (Node(name="item", spec=spec(value=value)) for value in (1, 2))
    return first, second


def make(store: Store, node: AnyNode) -> Path:
    with store.build(node, 0, command=COMMAND) as build:
        assert build is not None
        for name in FILES[node.kind]:
            (build.path / name).parent.mkdir(exist_ok=True)
            (build.path / name).write_bytes(f"{name} of {node.key}\n".encode() * 50)
        build.metrics["accuracy"] = 0.5
    return store.path(node)


def flip(path: Path, other: Path, name: str) -> None:
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)


def flip_and_hide(path: Path, other: Path, name: str) -> None:
    before = (path / name).stat()
    flip(path, other, name)
    os.utime(path / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path, other: Path, name: str) -> None:
    os.truncate(path / name, 7)


def empty(path: Path, other: Path, name: str) -> None:
    os.truncate(path / name, 0)


def delete(path: Path, other: Path, name: str) -> None:
    (path / name).unlink()


def folder_instead(path: Path, other: Path, name: str) -> None:
    delete(path, other, name)
    (path / name).mkdir()


def zero(path: Path, other: Path, name: str) -> None:
    (path / name).write_bytes(bytes((path / name).stat().st_size))


def swap(path: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / name, path / name)


def swap_folders(path: Path, other: Path, name: str) -> None:
    path.rename(path.with_name("aside"))
    other.rename(path)


def foreign(path: Path, other: Path, name: str) -> None:
    (path / name).with_name("model.safetensors.index.json").write_text("{}")


def edit(change: Callable[[dict[str, object]], object]) -> Damage:
    def edited(path: Path, other: Path, name: str) -> None:
        content = json.loads((path / MANIFEST).read_text())
        change(content)
        (path / MANIFEST).write_text(json.dumps(content, indent=2))

    return edited


def older(path: Path, other: Path, name: str) -> None:
    edit(lambda content: content.update(schema_version=2))(path, other, name)


def of_another(path: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / MANIFEST, path / MANIFEST)


def cut_manifest(path: Path, other: Path, name: str) -> None:
    os.truncate(path / MANIFEST, (path / MANIFEST).stat().st_size // 2)


OF_FILES: dict[str, Damage] = {
    "flip": flip, "flip, time restored": flip_and_hide, "truncate": truncate, "empty": empty, "delete": delete,
    "folder": folder_instead, "zero": zero, "swap": swap, "foreign": foreign,
}  # fmt: skip
OF_MANIFESTS: dict[str, Damage] = {
    "folders swapped": swap_folders,
    "older schema": older,
    "of another": of_another,
    "manifest cut": cut_manifest,
    "manifest gone": lambda path, other, name: (path / MANIFEST).unlink(),
    "manifest empty": lambda path, other, name: os.truncate(path / MANIFEST, 0),
    "metric": edit(lambda content: content["metrics"].update(accuracy=0.9)),  # type: ignore[attr-defined]
    "seed": edit(lambda content: content.update(seed=7)),
    "file left out": edit(lambda content: content["files"].clear()),  # type: ignore[attr-defined]
    "field gone": edit(lambda content: content.pop("command")),
    "list": lambda path, other, name: (path / MANIFEST).write_text("[]") and None,
}


def cases() -> Iterator[tuple[str, str, str]]:
    for kind, names in FILES.items():
        for name in names:
            yield from ((kind, damage, name) for damage in OF_FILES)
        yield from ((kind, damage, names[0]) for damage in OF_MANIFESTS)


def test_every_kind_of_artifact_is_tried() -> None:
    of_specs = {item.kind for item in vars(specs).values() if isinstance(getattr(item, "kind", None), str)}
    assert of_specs - {"source"} == set(FILES)


@pytest.mark.parametrize(("kind", "damage", "name"), cases())
def test_damage_is_noticed_before_use(kind: str, damage: str, name: str, tmp_path: Path) -> None:
    first, second = nodes(kind)
    store = Store(tmp_path)
    path, other = make(store, first), make(store, second)
    assert store.verified(first) == path  # and remembered, so that a second time is not the first
    (OF_FILES | OF_MANIFESTS)[damage](path, other, name)
    with pytest.raises(ArtifactError) as caught:
        Store(tmp_path).verified(first)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    if damage in OF_FILES:
        wrong = (path / name).with_name("model.safetensors.index.json") if damage == "foreign" else path / name
        assert str(wrong) in text and f"rm -r {path} && {COMMAND}" in text


READS = re.compile(r"(read|each)_\w+\((self\._|work\.)?store\.path\(|store\.path\([^()]*\) / (?!LOG)")


@pytest.mark.parametrize("module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_reads_an_artifact_that_is_not_verified(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert module.parent.name == "artifacts" or not READS.search(text), "read below store.verified(node)"


def test_a_file_that_did_not_change_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, _ = nodes("models")
    path = make(Store(tmp_path), node)
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
    node, _ = nodes("bpc")
    make(Store(tmp_path), node)
    remembered = tmp_path / sums_module.REMEMBERED
    for content in (b"\xff\xfe[[", b'[[1, 2], "x"]\nnull\n[[1,2,3,4],"zz"]\n[[1,2,3,4],5]', b""):
        remembered.write_bytes(content)
        assert Store(tmp_path).verified(node)
    remembered.unlink()
    remembered.mkdir()  # nothing can be remembered
    assert Store(tmp_path).verified(node)


def test_a_manifest_of_an_earlier_version_has_no_sum(tmp_path: Path) -> None:
    node, _ = nodes("bpc")
    path = make(Store(tmp_path), node)
    edit(lambda content: content.pop("sum"))(path, path, "")
    assert Store(tmp_path).verified(node)
    flip(path, path, "bpc.jsonl")
    with pytest.raises(ArtifactError, match="SHA-256"):
        Store(tmp_path).verified(node)


def test_the_sum_of_a_manifest_holds_for_odd_values(tmp_path: Path) -> None:
    fields = {"schema_version": SCHEMA_VERSION, "stage": "s", "name": "é\ud800", "key": "k"}
    fields["config"] = {1: None, 2: [1e-320, 10**30]}
    counted = {"counts": {}, "metrics": {"loss": float("nan"), "best": float("-inf")}, "seed": 0, "seconds": 0.1}
    rest = {"versions": {}, "commit": None, "hardware": {}, "finished_at": "", "files": {}, "inputs": {}}
    (tmp_path / "wherever").mkdir()
    write_manifest(tmp_path / "wherever", Manifest(**fields, **counted, **rest))  # type: ignore[arg-type]
    assert read_manifest(tmp_path / "wherever").sum


def test_the_tool_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node, other = nodes("data")
    path, _ = make(Store(tmp_path), node), make(Store(tmp_path), other)
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
