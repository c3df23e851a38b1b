"""Files of kilobytes with rows of gigabytes, and tables of many columns."""

from __future__ import annotations

import gzip
from pathlib import Path

import psutil
import pytest
from pyarrow import Table, parquet

from micota.artifacts.strict_json import repeated
from micota.data import bounds
from micota.data.files import file_rows
from micota.errors import SourceError

ROW = b'{"problem": "1+1", "answer": 2}\n'


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ROW", 100_000)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.jsonl.gz", ROW + b'{"problem": "' + b"a" * 200_000 + b'"}\n', "a.jsonl.gz:2"),
        ("a.csv.gz", b'problem,answer\n1,2\n"' + b"a\n" * 100_000 + b'",2\n', r"a.csv.gz:\d+"),
        ("a.csv.gz", b"problem,answer\n1,2\n" + b"," * 200_000, "a.csv.gz:3"),
    ],
)
def test_a_row_without_end_is_refused(name: str, content: bytes, where: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content))
    rows = file_rows(tmp_path / name)
    assert next(rows)
    with pytest.raises(SourceError, match=f"{where}: a row of more than .* MiB; accepted: rows of at most that"):
        next(rows)


def test_many_rows_are_no_large_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(ROW * 10_000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"problem,answer\n" + b"1+1,2\n" * 30_000))
    assert sum(1 for _ in file_rows(tmp_path / "a.jsonl.gz")) == 10_000
    assert sum(1 for _ in file_rows(tmp_path / "a.csv.gz")) == 30_000


def test_a_document_that_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[" + b" " * 300_000 + b'{"problem": "1"}]'))
    assert list(file_rows(tmp_path / "a.json.gz"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 0}))
    with pytest.raises(SourceError, match=r"a.json.gz: one JSON document of more than .*; accepted: JSON lines"):
        list(file_rows(tmp_path / "a.json.gz"))


def test_parquet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    kinds = {
        "plain": ({"x": ["a" * 200_000] * 3}, False),
        "list": ({"x": [[0] * 100_000]}, True),
        "dictionary": ({"x": ["a" * 200_000] * 100}, True),
    }
    for name, (columns, repeats) in kinds.items():
        file = tmp_path / f"{name}.parquet"
        parquet.write_table(Table.from_pydict(columns), file, use_dictionary=repeats, compression="zstd")
        assert file.stat().st_size < 20_000
        with pytest.raises(SourceError, match=r"row group 1: a row of more than .* MiB; accepted: "):
            list(file_rows(file))


def test_a_text_that_rows_repeat_is_read_few_times_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "a.parquet", []
    parquet.write_table(Table.from_pydict({"x": ["a" * 50_000] * 100}), file, compression="zstd")
    monkeypatch.setattr(bounds, "REPEATED_BYTES", 500_000)
    batches = parquet.ParquetFile.iter_batches

    def noting(self: parquet.ParquetFile, batch_size: int, **how: object) -> object:
        read.append(batch_size)
        return batches(self, batch_size, **how)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noting)
    assert [len(row["x"]) for _, row in file_rows(file)] == [50_000] * 100
    assert 1 <= read[0] <= 10


def test_each_name_is_compared_with_few_others() -> None:
    class Name(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)

    names = [Name(f"c{number}") for number in range(2_000)]
    assert repeated(names) is None and Name.compared < 4_000
    assert repeated([*names, *reversed(names)]) == "c0"
