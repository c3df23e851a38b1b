from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from micota.artifacts.in_use import RUNNING, InUse, used
from micota.artifacts.inventory import Inventory, Item, delete, points_of, take
from micota.artifacts.manifest import MANIFEST
from micota.artifacts.store import Store
from micota.errors import ArtifactError, ConfigError
from micota.graph.node import AnyNode, Node, Spec


@dataclass(frozen=True, kw_only=True)
class Rows(Spec):
    stage = "select"
    kind = "data"
    value: int = 1


@dataclass(frozen=True, kw_only=True)
class Points(Rows):
    kind = "merge_points"


@dataclass(frozen=True, kw_only=True)
class Sweep(Rows):
    kind = "merge_sweeps"


def node(name: str = "recipe", spec: Spec | None = None, **inputs: AnyNode) -> AnyNode:
    return Node(name=name, spec=spec or Rows(), inputs=inputs)


def make(store: Store, item: AnyNode, experiment: str = "tiny") -> Path:
    with store.build(item, 0, experiment, f"micota generate data={item.name}") as build:
        assert build is not None
        (build.path / "data.jsonl").write_text("payload")
    return store.path(item)


def begin(store: Store, item: AnyNode) -> Path:
    """An unfinished build, as a killed command leaves one."""
    with pytest.raises(RuntimeError), store.build(item, 0) as build:
        assert build is not None
        (build.path / "data.jsonl").write_text("half")
        raise RuntimeError
    return store.partial(item)


def state_of(root: Path) -> dict[str, str]:
    return {item.name: item.state for item in take(root).items}


def everything(inventory: Inventory) -> list[Item]:
    return inventory.items


def test_an_inventory_has_size_state_and_users_of_every_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    part = node("part")
    whole = node("whole", part=part)
    make(store, part)
    make(store, whole)
    begin(store, node("begun"))
    (store.path(whole) / "data.jsonl").write_text("cut")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tokens").write_text("12345")
    (tmp_path / "reports" / "tiny-0123456789").mkdir(parents=True)  # no artifact, for all its name
    inventory = take(tmp_path)
    items = {item.name: item for item in inventory.items}
    assert {name: item.state for name, item in items.items()} == {
        "part": "complete", "whole": "damaged", "begun": "partial"
    }  # fmt: skip
    assert items["part"].needed_by == (whole.folder,) and items["part"].experiments == ("tiny",)
    assert items["part"].num_bytes == sum(path.stat().st_size for path in items["part"].path.iterdir())
    assert "has 3 bytes, its manifest has 7" in items["whole"].problem
    assert inventory.others == {"cache": 5, "reports": 0}


def test_an_artifact_of_another_schema_is_damaged_and_breaks_no_list(tmp_path: Path) -> None:
    path = make(Store(tmp_path), node())
    (path / MANIFEST).write_text(json.dumps({"schema_version": 1}))
    [item] = take(tmp_path).items
    assert item.state == "damaged" and "artifact schema 1" in item.problem


@pytest.mark.parametrize("name", ["part", "data/part", "part-KEY", "data/part-KEY", "KEY", "PATH"])
def test_a_name_finds_its_artifact(tmp_path: Path, name: str) -> None:
    store, item = Store(tmp_path), node("part")
    path = make(store, item)
    wanted = name.replace("KEY", item.key).replace("PATH", str(path))
    assert take(tmp_path).named(wanted).path == path


def test_a_name_of_none_or_several_is_refused_with_the_accepted_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in (1, 2):
        make(store, node("strong", Rows(value=value)))
    inventory = take(tmp_path)
    with pytest.raises(ArtifactError, match=r"'stron': no such artifact in .*; did you mean 'strong'"):
        inventory.named("stron")
    with pytest.raises(
        ArtifactError, match=r"'strong' names 2 artifacts; accepted: one of data/strong-.*, data/strong"
    ):
        inventory.named("strong")
    begin(store, node("once"))
    make(store, node("once", Rows(value=2)))
    assert take(tmp_path).named("once").state == "complete"
    with pytest.raises(ArtifactError, match="there is no such folder"):
        take(tmp_path / "nowhere")


def test_what_experiments_need_is_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tuned = node("tuned")
    point, sweep = node("point", Points(), tuned=tuned), node("sweep", Sweep(), tuned=tuned)
    for item in (tuned, point, sweep):
        make(store, item)
    points = points_of({"tuned": tuned.key})
    of_sweep = {item.name: item.experiments for item in take(tmp_path, {"tiny": [sweep.folder, points]}).items}
    assert of_sweep == {"tuned": (), "point": ("tiny",), "sweep": ("tiny",)}
    assert {item.name: item.needed_by for item in take(tmp_path).items}["point"] == (sweep.folder,)


def test_deletion_leaves_what_a_running_command_uses(tmp_path: Path) -> None:
    store = Store(tmp_path)
    read, free, begun = node("read"), node("free"), node("begun")
    make(store, read)
    make(store, free)
    begin(store, begun)
    with InUse(tmp_path, [read.folder, begun.folder]):
        assert used(tmp_path) == {read.folder, begun.folder}
        assert [item.name for item in delete(tmp_path, everything)] == ["free"]
    assert state_of(tmp_path) == {"begun": "partial", "read": "complete"}
    assert not (tmp_path / RUNNING).exists(), "the last command removes the list"
    assert len(delete(tmp_path, everything)) == 2 and state_of(tmp_path) == {}


def test_a_build_of_another_process_is_running_and_stays(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom test_inventory import Store, node\n"
        "with Store(sys.argv[1]).build(node('built'), 0) as build:\n"
        "    print('built', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )  # fmt: skip
    assert other.stdin is not None and other.stdout is not None
    try:
        assert other.stdout.readline() == b"built\n"
        assert state_of(tmp_path) == {"built": "running"}
        assert delete(tmp_path, everything) == []
    finally:
        other.kill()
        other.communicate()
    assert state_of(tmp_path) == {"built": "partial"}, "the kernel frees the lock of a killed command"
    assert [item.name for item in delete(tmp_path, everything)] == ["built"]


def test_the_list_of_a_killed_command_protects_nothing(tmp_path: Path) -> None:
    item = node()
    make(Store(tmp_path), item)
    (tmp_path / RUNNING).mkdir()
    (tmp_path / RUNNING / "host-1-ab.json").write_text(json.dumps([item.folder]))
    assert used(tmp_path) == set()
    assert len(delete(tmp_path, everything)) == 1 and not (tmp_path / RUNNING).exists()


def test_nothing_is_written_below_a_root_that_does_not_exist(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    with InUse(root, ["data/x"]) as in_use:
        assert not root.exists()
        root.mkdir()
        in_use.begin()
        assert used(root) == {"data/x"}


def test_an_interrupted_deletion_is_finished_by_the_next(tmp_path: Path) -> None:
    path = make(Store(tmp_path), node("gone"))
    path.rename(path.with_name(path.name + ".forgotten"))
    assert state_of(tmp_path) == {"gone": "deleted"}
    assert [item.name for item in delete(tmp_path, everything)] == ["gone"] and state_of(tmp_path) == {}


def test_a_refused_build_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    with pytest.raises(ConfigError), Store(root).build(node(), 0):
        raise ConfigError("no")
    assert not root.exists()
    make(Store(root), node("other", Points()))
    with pytest.raises(ConfigError), Store(root).build(node(), 0):
        raise ConfigError("no")
    assert [path.name for path in root.iterdir()] == ["merge_points"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_modes_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Store(tmp_path).build(node(), 0) as build:
            assert build is not None
            (build.path / "inner").mkdir(mode=0o700)
            for path in (build.path / "private", build.path / "inner" / "private"):
                path.touch(mode=0o600)
    finally:
        os.umask(before)
    folder = Store(tmp_path).path(node())
    for path in folder.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path.name
