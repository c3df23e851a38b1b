"""Rows of stored log-probabilities: their numbers in a batch, and their reading over several files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from micota.sft.context_parallel import padded
from micota.sft.packing import IGNORED, Tokens, lay_out
from micota.sft.targets import INDEX, NUMBERS, SUM, StoredTargets, ends_of, file_of, files_of, numbered, save


def test_each_label_has_the_number_of_its_row() -> None:
    tokens = [
        Tokens(ids=[1, 2, 3, 4, 5, 6], num_prompt=2, gaps=((3, 5),)),  # learns 3 and 6
        Tokens(ids=[7, 8, 9], num_prompt=1),  # learns 8 and 9
        Tokens(ids=[10, 11], num_prompt=1),
    ]
    layout = [[1, 0], [2]]
    batch = lay_out(tokens, layout)
    numbers = numbered(batch, layout, tokens, [100, 200, 300])[NUMBERS]
    labels = batch["labels"]
    assert {int(label): int(number) for label, number in zip(labels.flatten(), numbers.flatten(), strict=True)} == {
        3: 100, 6: 101, 8: 200, 9: 201, 11: 300, IGNORED: -1,
    }  # fmt: skip
    wider = padded(batch | {NUMBERS: numbers}, 2)  # for devices that divide the columns of a row
    assert wider[NUMBERS].shape == wider["labels"].shape == (2, 10) and wider[NUMBERS][:, -1].tolist() == [-1, -1]


def test_rows_are_read_over_files_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micota.sft.targets.FILE_BYTES", 40)
    ends = ends_of([3, 0, 4, 9, 1])
    ranges = list(files_of(ends, 8))  # of at most 5 rows, or one example
    assert ranges == [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    log_p, ids = torch.randn(17, 3, dtype=torch.float16), torch.arange(34, dtype=torch.int32).view(17, 2)
    starts = [int(ends[one.start - 1]) if one.start else 0 for one in ranges]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], 17], strict=True)):
        save(file_of(tmp_path, number), {"log_p": log_p[start:stop].clone(), "ids": ids[start:stop].clone()})
    save(tmp_path / INDEX, {"ends": torch.from_numpy(ends), "starts": torch.tensor(starts)}, {SUM: "s"})
    stored = StoredTargets(tmp_path)
    assert stored.first_rows == [0, 3, 3, 7, 16] and stored.tokens == "s"
    for rows in ([16, 2, 3, 4, 5, 6, 7, 0, 1, 2], [5], []):
        events = stored.events(torch.tensor(rows, dtype=torch.long), 50)
        assert events.ids is not None and events.ids.tolist() == ids[rows].tolist() and events.vocabulary == 50
        assert events.log_p.equal(log_p[rows].float())
