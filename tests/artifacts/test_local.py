"""What identifies the files and folders of a user."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from micota.artifacts.local import fingerprint
from micota.artifacts.store import Store
from micota.artifacts.sums import Sums
from micota.config import SourceConfig
from micota.errors import ArtifactError
from micota.graph import SourceSpec
from micota.graph.node import AnyNode, Node, Spec


def of(path: Path) -> str:
    return fingerprint(path, Sums(path.parent))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model" / "adapter").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "adapter" / "weights").write_text("weights")
    return tmp_path / "model"


def test_a_file_is_its_content_and_its_format(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1")
    first = of(file)
    os.utime(file, (0, 0))
    assert of(file) == of(Path(shutil.copy(file, tmp_path / "my.others.jsonl"))) == first
    assert of(Path(shutil.copy(file, tmp_path / "rows.csv"))) != first
    assert of(Path(shutil.copy(file, tmp_path / "rows.jsonl.gz"))) != of(Path(shutil.copy(file, tmp_path / "r.csv.gz")))
    file.write_text("2")
    assert of(file) != first


def test_a_folder_is_the_names_and_contents_of_its_files(model: Path, tmp_path: Path) -> None:
    first = of(model)
    copied = Path(shutil.copytree(model, tmp_path / "other", copy_function=shutil.copyfile))
    (copied / ".cache").mkdir()
    (copied / ".cache" / "downloaded").write_text("today")
    assert of(copied) == first
    (copied / "config.json").rename(copied / "generation_config.json")
    assert of(copied) != first
    (model / "adapter" / "weights").write_text("WEIGHTS")
    assert of(model) != first


def test_a_folder_behind_a_link_counts(model: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(model)
    first = of(tmp_path / "data")
    (model / "adapter" / "weights").write_text("WEIGHTS")
    assert of(tmp_path / "data") != first


@dataclass(frozen=True, kw_only=True)
class Rows(Spec):
    stage = "select"
    kind = "data"

    problems: SourceConfig


def test_the_same_input_elsewhere_gives_the_same_artifact() -> None:
    here = SourceSpec(path="/here/model", revision=None, fingerprint="f" * 16)
    keys = {Node(name="x", spec=replace(here, path=path)).key for path in ("/here/model", "/there/model")}
    assert len(keys) == 1
    assert Node(name="x", spec=replace(here, fingerprint="e" * 16)).key not in keys
    hub = replace(here, fingerprint=None)
    assert Node(name="x", spec=hub).key != Node(name="x", spec=replace(hub, path="/there/model")).key
    rows = [SourceConfig(path=path, fingerprint="f" * 16 + ".jsonl") for path in ("a/rows.jsonl", "b/others.jsonl")]
    assert len({Node(name="x", spec=Rows(problems=source)).key for source in rows}) == 1


def test_an_artifact_as_input_is_compared_with_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made: list[Path] = []
    for value in ("a", "b"):
        node: AnyNode = Node(name="model", spec=SourceSpec(path=value, revision=None, fingerprint=None))
        with store.build(node, 0) as build:
            assert build is not None
            (build.path / "weights").write_text("weights")
        made.append(store.path(node))
    assert of(made[0]) == of(made[1]), "manifests and logs differ"
    (made[0] / "weights").write_text("WEIGHTS")
    with pytest.raises(ArtifactError, match="weights has the SHA-256"):
        of(made[0])


def test_a_file_of_others_may_be_called_like_a_manifest(model: Path) -> None:
    first = of(model)
    for content in ("{", "[]", json.dumps({"files": ["a"]})):
        (model / "manifest.json").write_text(content)
        assert of(model) != first
