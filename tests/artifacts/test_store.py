from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kills import is_waited_for
from safetensors.numpy import save_file

from micota.artifacts.appending import JsonlAppender
from micota.artifacts.jsonl import read_jsonl, write_jsonl, write_text
from micota.artifacts.manifest import read_manifest
from micota.artifacts.provenance import files_below
from micota.artifacts.store import Store, discard
from micota.errors import ArtifactError, MachineError, SourceError
from micota.graph.node import SCHEMA_VERSION, AnyNode, Node, Spec
from micota.records import Problem

HERE = [str(folder) for folder in list(Path(__file__).parents)[:2]]  # where a process of Python finds this module

BARE_MANIFEST = json.dumps({"schema_version": SCHEMA_VERSION})


@dataclass(frozen=True, kw_only=True)
class OneValue(Spec):
    stage = "select"
    kind = "data"

    value: int = 1


def node(value: int = 1, **inputs: AnyNode) -> AnyNode:
    return Node(name="recipe", spec=OneValue(value=value), inputs=inputs)


def made(store: Store, item: AnyNode, text: str = "payload") -> Path:
    with store.build(item, seed=0) as build:
        assert build is not None
        (build.path / "data.jsonl").write_text(text)
        build.counts["kept"] = 3
    return store.path(item)


def test_a_finished_artifact_has_its_manifest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item = node(2, part=node(1))
    assert store.manifest(item) is None
    path = made(store, item)
    manifest = store.manifest(item)
    assert manifest is not None
    assert (manifest.key, manifest.config, manifest.counts) == (item.key, {"value": 2}, {"kept": 3})
    assert manifest.inputs == {"part": {"name": "recipe", "key": node(1).key}}
    assert sorted(entry.name for entry in path.iterdir()) == ["data.jsonl", "log.txt", "manifest.json"]
    assert list(manifest.files) == ["data.jsonl"]
    assert "torch" in manifest.versions and manifest.hardware["cpus"] == os.cpu_count()


def test_a_failed_build_is_not_done_and_keeps_its_progress(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.build(node(), seed=0) as build:
        assert build is not None
        (build.path / "completions.jsonl").write_text("{}\n")
        raise RuntimeError
    assert not store.is_done(node()) and store.progress(node())
    with store.build(node(), seed=0) as build:
        assert build is not None and (build.path / "completions.jsonl").read_text() == "{}\n"
    assert store.is_done(node())


def test_a_refused_build_leaves_nothing_unless_there_is_work_to_go_on_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for mistake in (SourceError("no such model"), FileNotFoundError(2, "no such file", "rows.jsonl")):
        with pytest.raises(type(mistake)), store.build(node(), seed=0) as build:
            assert build is not None
            (build.path / "completions.jsonl").touch()
            raise mistake
        assert not store.partial(node()).exists()
    with pytest.raises(SourceError), store.build(node(), seed=0) as build:
        assert build is not None
        (build.path / "completions.jsonl").write_text("{}\n")
        raise SourceError("the endpoint is gone")
    assert (store.partial(node()) / "completions.jsonl").read_text() == "{}\n"


def test_who_waited_for_a_refused_build_makes_it(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def other() -> None:
        with store.build(node(), seed=0) as build:
            assert build is not None
            (build.path / "data.jsonl").write_text("other")

    thread = threading.Thread(target=other)
    with pytest.raises(SourceError), store.build(node(), seed=0):
        thread.start()
        while not is_waited_for(store.partial(node()) / ".lock"):
            pass
        raise SourceError("no such model")
    thread.join(timeout=60)
    assert (store.path(node()) / "data.jsonl").read_text() == "other"


def test_what_a_killed_run_was_writing_is_no_part_of_the_artifact(tmp_path: Path) -> None:
    store, item = Store(tmp_path), node()
    with pytest.raises(RuntimeError), store.build(item, seed=0) as build:
        assert build is not None
        (build.path / "manifest.json.tmp").write_text('{"schema_ver')
        (build.path / "scores.json.tmp").write_text("[1, ")
        raise RuntimeError("killed between the writing and the renaming")
    folder = made(store, item)
    manifest = store.manifest(item)
    assert manifest is not None and set(manifest.files) == {"data.jsonl"}
    assert not list(folder.glob("*.tmp"))


def killed_at(monkeypatch: pytest.MonkeyPatch, moment: str, store: Store, item: AnyNode) -> None:
    """A build that ends at a moment of its end: ``rename`` of the folder, or ``rmtree`` of what it does not need."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path if moment == "rename" else shutil, moment, killed)
        with store.build(item, seed=0) as build:
            assert build is not None
            (build.path / "data.jsonl").write_text("payload")
            (build.path / "checkpoints").mkdir()
            (build.path / "checkpoints" / "step").write_text("state")
            discard(build.path, ["checkpoints", "best"])


@pytest.mark.parametrize("moment", ["rename", "rmtree"])
def test_a_build_that_was_killed_after_its_manifest_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store, item = Store(tmp_path), node()
    killed_at(monkeypatch, moment, store, item)
    assert not store.is_done(item) and (store.partial(item) / "manifest.json").exists()
    with store.build(item, seed=0) as build:
        assert build is None
    assert sorted(path.name for path in store.verified(item).iterdir()) == ["data.jsonl", "log.txt", "manifest.json"]


def test_a_manifest_that_does_not_fit_its_unfinished_build_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, item = Store(tmp_path), node()
    killed_at(monkeypatch, "rename", store, item)
    (store.partial(item) / "data.jsonl").write_text("PAYLOAD")
    with store.build(item, seed=0) as build:
        assert build is not None and not (build.path / "manifest.json").exists()
        (build.path / "checkpoints").mkdir(exist_ok=True)
    assert set(read_manifest(store.verified(item)).files) == {"data.jsonl"}


def test_deleting_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, item = Store(tmp_path), node()
    made(store, item)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rmdir", killed)
        store.forget(item)
    made(store, item)
    store.forget(item)
    assert not list((tmp_path / "data").iterdir())


def test_a_damaged_manifest_of_another_artifact_stops_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for value in (1, 2):
        made(store, node(value))
    (store.path(node(1)) / "manifest.json").write_text("{")
    assert [manifest.key for manifest in store.siblings(node(3))] == [node(2).key]


def test_a_folder_that_goes_away_while_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, item, real = Store(tmp_path), node(), Path.mkdir
    gone: list[Path] = []

    def mkdir(path: Path, *arguments: Any, **named: Any) -> None:
        real(path, *arguments, **named)
        if path == store.partial(item) and not gone:  # another run is refused, and removes its folder
            gone.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    made(store, item)
    assert gone and store.verified(item)


def test_who_waited_for_a_killed_build_goes_on_with_what_it_has(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from test_store import *\n"
        "with Store(sys.argv[1]).build(node(), seed=0) as build:\n"
        "    (build.path / 'half').write_text('x'); print('begun', flush=True); sys.stdin.read()"
    )
    words, pipe = [sys.executable, "-c", code, str(tmp_path), *HERE], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "begun\n"
        store, owners = Store(tmp_path), []

        def killed(owner: str) -> None:
            owners.append(owner)
            other.kill()

        with store.build(node(), seed=0, notice=killed) as build:
            assert build is not None and (build.path / "half").read_text() == "x"
            (build.path / "data.jsonl").write_text("the rest")
    assert owners == [f"process {other.pid} on {platform.node()}"]
    assert sorted(store.manifest(node()).files) == ["data.jsonl", "half"]  # type: ignore[union-attr]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; sys.path[:0] = sys.argv[2:]; from test_store import *\n"
        "with Store(sys.argv[1]).build(node(), seed=0) as build:\n"
        "    (build.path / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(tmp_path), *HERE], check=False)
    assert finished.returncode == -signal.SIGKILL
    assert not Store(tmp_path).is_done(node())
    made(Store(tmp_path), node())
    assert Store(tmp_path).is_done(node())


def test_a_build_that_another_process_has_finished_yields_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made(store, node())
    with store.build(node(), seed=0) as build:
        assert build is None
    assert store.is_done(node()) and not store.progress(node())


def test_waiting_for_a_running_build_yields_none_at_its_end(tmp_path: Path) -> None:
    store, builds, owners, met = Store(tmp_path), [], [], threading.Event()

    def follow() -> None:
        with Store(tmp_path).build(node(), seed=0, notice=lambda owner: met.set() or owners.append(owner)) as build:
            builds.append(build)

    with store.build(node(), seed=0):
        thread = threading.Thread(target=follow)
        thread.start()
        assert met.wait(60) and not builds
    thread.join(timeout=60)
    assert builds == [None] and store.is_done(node()) and not store.progress(node())
    assert owners == [f"process {os.getpid()} on {platform.node()}"] and store.builder(node()) is None


@pytest.mark.parametrize(("damage", "message"), [
    (lambda path: (path / "data.jsonl").unlink(), "data.jsonl is missing"),
    (lambda path: (path / "data.jsonl").write_text("pay"), "has 3 bytes, its manifest has 7"),
    (lambda path: (path / "manifest.json").write_text("{"), "not valid JSON"),
    (lambda path: (path / "manifest.json").unlink(), "not a finished artifact"),
    (lambda path: (path / "manifest.json").write_text('{"schema_version": 0}'), "has artifact schema 0"),
    (lambda path: write_text(path / "manifest.json", BARE_MANIFEST), "does not fit its schema"),
])  # fmt: skip
def test_damage_is_one_clear_error(tmp_path: Path, damage: object, message: str) -> None:
    path = made(Store(tmp_path), node())
    damage(path)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=message) as caught:
        Store(tmp_path).manifest(node())
    assert str(path) in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot write to .*choose a writable folder with artifacts="):
        Store(tmp_path / "file").build(node(), seed=0).__enter__()


def test_keys_depend_on_what_determines_the_result_and_nothing_else() -> None:
    assert node(1).key != node(2).key
    assert node(1, part=node(1)).key != node(1, part=node(2)).key
    renamed = Node(name="other", spec=OneValue(value=1), command="x", choose={"a": "b"})
    assert renamed.key == node(1).key


def test_torn_lines_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = Problem(id="1", problem="é\n", answer="2")
    write_jsonl(path, [row])
    with open(path, "ab") as handle:
        handle.write(b'{"id": "2", "prob')
    appender = JsonlAppender(path)
    appender.append([row])
    appender.close()
    assert read_jsonl(path, Problem) == [row, row]


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "1", "problem": "p", "answer": "a"}\n{"id": "1"}\n')
    with pytest.raises(ArtifactError, match=r"rows.jsonl:2: not a row of Problem"):
        read_jsonl(path, Problem)


def test_write_text_is_never_seen_half(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = {"a" * 200_000, "b" * 200_000}
    write_text(path, "a" * 200_000)
    stop = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(50):
        write_text(path, sorted(texts)[index % 2])
    stop.set()
    reader.join()
    assert seen <= texts


def test_files_behind_links_to_folders_count(tmp_path: Path) -> None:
    (tmp_path / "disk" / "below").mkdir(parents=True)
    (tmp_path / "disk" / "below" / "a.jsonl").write_text("1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "below" / "circle").symlink_to(tmp_path / "disk")
    assert files_below(tmp_path / "data") == [tmp_path / "data/link/below/a.jsonl"]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A limit on the size of files stands for the disk: the kernel refuses the write in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_weights(path: Path) -> None:
    save_file({"weight": np.zeros(10_000)}, path)


def save_checkpoint(path: Path) -> None:
    torch.save({"weight": torch.zeros(10_000)}, path)


@pytest.mark.parametrize("write", [save_weights, save_checkpoint, lambda path: write_text(path, "text" * 10_000)])
def test_a_full_disk_is_one_line_that_names_the_folder(
    tmp_path: Path, full_disk: None, write: Callable[[Path], None]
) -> None:
    store = Store(tmp_path)
    with pytest.raises(MachineError) as caught, store.build(node(), seed=0) as build:
        assert build is not None
        write(build.path / "weights")
    text = str(caught.value)
    assert text.startswith(f"{store.partial(node())} cannot be written (") and "free some space" in text
    assert "\n" not in text and not list(tmp_path.rglob("*.tmp"))


def test_processes_that_write_one_file_do_not_meet_in_its_draft(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    texts = [str(number) * 100_000 for number in range(4)]
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_text() in texts
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def write_often(path: Path, text: str) -> None:
    for _ in range(40):
        write_text(path, text)


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "page.html.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'page.html'}'"):
        write_text(tmp_path / "page.html", "text")
    assert not list(tmp_path.iterdir())


def test_files_have_the_mode_of_the_umask(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = os.umask(0o022)
    request.addfinalizer(lambda: os.umask(before))
    store = Store(tmp_path)
    with store.build(node(), seed=0) as build:
        assert build is not None
        (build.path / "adapter").mkdir(mode=0o700)
        save_weights(build.path / "adapter" / "weights")  # by way of a temporary file of mode 0600
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in store.path(node()).rglob("*")}
    assert modes.pop("adapter") == "0o755" and set(modes.values()) == {"0o644"}
