"""Checkpoints lie in a folder that users may share: nothing in them is run, and no description leads elsewhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.load import _METADATA_FILENAME as REST
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards

from micota.errors import ConfigError
from micota.sft.checkpoints import StreamedCheckpoints
from micota.sft.resharding import load_whole, whole_checkpoint
from micota.sft.shards import ShardPlanner, ShardReader, loading
from micota.sft.writing import Writing

DESCRIPTION = ".metadata"
REFUSED = "is damaged, or has more in it than weights .*; delete .* and run again, which starts over"


class Hostile:
    """What leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def content(**more: Any) -> dict[str, Any]:
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.ones(2, 2, dtype=torch.bfloat16)}
    groups = [{"params": ["weight"], "lr": 1e-3, "betas": (0.9, 0.99), "decay": None, **more}]
    return {
        "state_dict": {"weight": torch.eye(2)},
        "optimizer_0": {"state": {"weight": moments}, "param_groups": groups},
    }


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "step=3.ckpt"
    save_shards(content(), checkpoint_id=folder, no_dist=True)
    torch.save({"epoch": 1}, folder / REST)
    return folder


def test_shards_are_read_as_they_were_written(shards: Path) -> None:
    read = whole_checkpoint(shards)
    assert torch.equal(read["state_dict"]["weight"], torch.eye(2)) and read["epoch"] == 1
    [state] = read["optimizer_states"]
    assert state["param_groups"][0] | {"params": ["weight"]} == content()["optimizer_0"]["param_groups"][0]
    assert state["state"][0]["exp_avg"].dtype is torch.bfloat16
    into = {"state_dict": {"weight": torch.zeros(2, 2)}}
    load_shards(into, storage_reader=ShardReader(shards), planner=ShardPlanner(), no_dist=True)
    assert torch.equal(into["state_dict"]["weight"], torch.eye(2))


@pytest.mark.parametrize("place", ["description", "value", "rest"])
def test_no_code_in_shards_is_run(shards: Path, place: str, tmp_path: Path) -> None:
    mark = tmp_path / "hacked"
    if place == "description":
        (shards / DESCRIPTION).write_bytes(pickle.dumps(Hostile(mark)))
    elif place == "rest":
        torch.save({"epoch": Hostile(mark)}, shards / REST)
    else:
        save_shards(content(lr=Hostile(mark)), checkpoint_id=shards, no_dist=True)
    with pytest.raises(ConfigError, match=REFUSED):
        whole_checkpoint(shards)
    if place == "value":
        into = {"optimizer_0": content()["optimizer_0"]}
        with pytest.raises(ConfigError, match=REFUSED), loading(shards):
            load_shards(into, storage_reader=ShardReader(shards), planner=ShardPlanner(), no_dist=True)
    assert not mark.exists()


def test_a_description_names_files_of_its_folder(shards: Path) -> None:
    description = pickle.loads((shards / DESCRIPTION).read_bytes())
    for info in description.storage_data.values():
        info.relative_path = "../__0_0.distcp"
    (shards / DESCRIPTION).write_bytes(pickle.dumps(description))
    with pytest.raises(ConfigError, match=r"it names the file '\.\./__0_0\.distcp'"):
        whole_checkpoint(shards)


@pytest.mark.parametrize("damage", ["hostile", "torn"])
def test_no_code_in_a_checkpoint_of_one_file_is_run(tmp_path: Path, damage: str) -> None:
    mark, file = tmp_path / "hacked", tmp_path / "step=3.ckpt"
    torch.save({"state_dict": Hostile(mark)}, file)
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=REFUSED):
        StreamedCheckpoints(Writing(is_async=False)).load_checkpoint(file, weights_only=False)
    with pytest.raises(ConfigError, match=REFUSED):
        load_whole(file, torch.nn.Linear(2, 2), [], strict=True)
    assert not mark.exists()
