"""Rows of the hub, of folders that the library datasets saved, and of files with very long cells."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from micota.artifacts.provenance import sha256
from micota.config.rows import RowsConfig
from micota.data.files import file_rows, numbered_rows
from micota.data.sources import read_rows
from micota.errors import SourceError


class NotFoundError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for the library datasets, which takes seconds to import; what it was asked for, and read."""
    calls: list[Any] = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(10**9):
            calls.append(number)
            yield {"number": number}

    def load(path: str, subset: str | None, **settings: Any) -> Iterator[dict[str, int]]:
        calls.append((path, subset, settings))
        if path == "no/set":
            raise NotFoundError("Dataset 'no/set'\ndoesn't exist")
        return rows()

    errors = SimpleNamespace(DatasetsError=NotFoundError)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load, exceptions=errors))  # type: ignore[arg-type]
    return calls


@pytest.mark.parametrize("path", ["hub:a/b", "a/b"])
def test_a_set_of_the_hub_is_read_as_far_as_needed(hub: list[Any], path: str) -> None:
    source = RowsConfig(path=path, subset="math", split="train[:9]", revision="abc", limit=2)
    rows = list(numbered_rows(source, source.limit, streaming=True))
    assert rows == [("a/b, row 1", {"number": 0}), ("a/b, row 2", {"number": 1})]
    settings = {"split": "train[:9]", "revision": "abc", "streaming": True}
    assert hub == [("a/b", "math", settings), 0, 1]


@pytest.mark.usefixtures("hub")
def test_a_set_that_is_not_on_the_hub_is_one_line() -> None:
    with pytest.raises(SourceError) as caught:
        next(numbered_rows(RowsConfig(path="hub:no/set", subset="x")))
    text = "path='hub:no/set', subset='x', split='train', revision=None cannot be read (Dataset 'no/set' doesn't exist)"
    assert text in str(caught.value) and "accepted: a file of rows (.jsonl" in str(caught.value)


def test_a_name_that_is_none_of_the_hub_is_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    for path, named in {
        "hub:": "is no name of the hub; accepted: a file", "hub:a/b/c": "is no name of the hub",
        "https://host/datasets/a/b": "is no name of the hub", "hub:../x": "is no name of the hub",
        "hub:org/name": "there is a folder org/name here; accepted: path=org/name to read it",
    }.items():  # fmt: skip
        with pytest.raises(SourceError, match=f"path='{path}'.* ?{named}"):
            next(numbered_rows(RowsConfig(path=path)))


def test_a_file_has_no_subset(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(SourceError, match=r"subset=x: .*a.jsonl is no set of the hub; accepted: subset=null"):
        numbered_rows(RowsConfig(path=str(tmp_path / "a.jsonl"), subset="x"))


def test_a_folder_is_read_whole_but_for_other_splits(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b-test.jsonl"):
        (tmp_path / name).write_text(f'{{"in": "{name}"}}\n')
    for split, name in {"train": "a.jsonl", "test": "b-test.jsonl"}.items():
        [(_, row)] = numbered_rows(RowsConfig(path=str(tmp_path), split=split))
        assert row == {"in": name}
    (tmp_path / "c.jsonl").symlink_to("nowhere")
    with pytest.raises(SourceError, match=r"c.jsonl cannot be read \(No such file or directory\); accepted: "):
        list(numbered_rows(RowsConfig(path=str(tmp_path))))


def test_cells_may_be_as_long_as_a_chain_of_thought(tmp_path: Path) -> None:
    long = "so, 1\n" * 50_000  # the library's limit is 131,072 characters
    with open(tmp_path / "rows.tsv", "w", newline="") as handle:
        csv.writer(handle, delimiter="\t").writerows([["prompt", "completion"], ["q", long]])
    [(_, row)] = numbered_rows(RowsConfig(path=str(tmp_path / "rows.tsv")))
    assert row == {"prompt": "q", "completion": long}


def test_a_file_of_results_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text('{"id": 1}\n\n{"id": 2}\n')
    assert list(read_rows(tmp_path / "outputs")) == [{"id": 1}, {"id": 2}]


@pytest.mark.slow  # the library datasets takes seconds to import
def test_a_folder_that_the_library_saved(tmp_path: Path) -> None:
    import datasets

    rows = [{"messages": [{"role": "user", "content": "q"}], "completion": "a"}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    assert [row for _, row in numbered_rows(RowsConfig(path=str(tmp_path / "saved")))] == rows


def test_a_read_that_fails_names_its_file(tmp_path: Path) -> None:
    failing = tmp_path / "a.jsonl"
    failing.symlink_to("/proc/self/mem")  # its first byte cannot be read, as a part of a disk that fails
    with pytest.raises(SourceError, match=r"a.jsonl cannot be read \(Input/output error\); accepted: "):
        list(file_rows(failing))
    with pytest.raises(OSError, match=r"Input/output error: '.*a.jsonl'"):
        sha256(failing)
