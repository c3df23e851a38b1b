from __future__ import annotations

import errno
from pathlib import Path

import pytest

from micota.artifacts import appending, row_files
from micota.artifacts.jsonl import write_jsonl
from micota.artifacts.row_files import RowFiles, chunks
from micota.errors import ArtifactError
from micota.records import Question

ROWS = [Question(id=str(index), problem=text) for index, text in enumerate(["a", "ü\nb", "\ud800", "c" * 9])]


def test_rows_are_read_by_position_in_any_order_and_while_others_are_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with RowFiles() as files:
        file, spool = files.open(tmp_path / "rows.jsonl"), files.temporary(tmp_path)
        positions = []
        for position, row in files.each(file, Question):
            positions.append(position)
            assert files.read(file, positions[0], Question) == ROWS[0]
            assert files.append(spool, row) == position, "both have the same lines"
        assert [files.read(spool, at, Question) for at in reversed(positions)] == ROWS[::-1]
        assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"], "the temporary file has no name"


def test_a_damaged_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ROWS)
    path.write_bytes(path.read_bytes().replace(b'"id": "1"', b'"id": "1', 1))
    with RowFiles() as files, pytest.raises(ArtifactError, match=r"rows\.jsonl:2: not a row of Question"):
        list(files.each(files.open(path), Question))


def test_a_full_disk_is_an_error_of_the_user_that_names_the_folder(tmp_path: Path) -> None:
    class Full:
        def seek(self, *position: int) -> int:
            return 0

        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with RowFiles() as files:
        spool = files.temporary(tmp_path)
        files._files[spool] = (str(tmp_path), Full())  # type: ignore[assignment]
        with pytest.raises(ArtifactError, match=rf"below {tmp_path} \(No space left on device\)"):
            files.append(spool, ROWS[0])


def test_chunks_have_few_rows_and_few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MAX_ROWS", 3)
    monkeypatch.setattr(row_files, "MAX_CHARACTERS", 10)
    texts = ["a" * size for size in (1, 1, 1, 1, 9, 2, 50, 3, 3)]
    assert [[len(text) for text in chunk] for chunk in chunks(texts, len)] == [[1, 1, 1], [1, 9], [2], [50], [3, 3]]


def test_a_torn_last_line_is_cut_off_without_reading_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "BLOCK", 8)
    for kept, torn in ((b"", b""), (b"", b"x" * 30), (b"a\nbc\n", b""), (b"ab" * 20 + b"\n", b"torn" * 9)):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(kept + torn)
        appender = appending.JsonlAppender(path)
        appender.append([ROWS[0]])
        appender.close()
        assert path.read_bytes() == kept + b'{"id": "0", "problem": "a"}\n'
