"""Sizes of models without loading them."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
import yaml

from micota.config import LoraConfig, ShapeConfig, conf_folder
from micota.costs.sizes import config_of_files, shape_in, shape_of
from micota.data.sources import model_folder
from micota.graph import SourceSpec
from micota.graph.node import Node
from micota.sft.shape import Shape

# Weights as the makers' files hold them (elements of all tensors).
KNOWN = {
    "qwen0.5b": 494_032_768, "qwen1.5b": 1_543_714_304, "qwen3b": 3_085_938_688, "qwen7b": 7_615_616_512,
    "qwen14b": 14_770_033_664, "qwen32b": 32_763_876_352, "llama1b": 1_235_814_400, "llama3b": 3_212_749_824,
    "llama8b": 8_030_261_248, "llama3.1_70b": 70_553_706_496, "gemma9b": 9_241_705_984, "gemma27b": 27_227_128_320,
}  # fmt: skip
OPTIONS = sorted(path.stem for path in (conf_folder() / "model").glob("*.yaml") if not path.stem.startswith("tiny"))


def shape_of_option(name: str) -> ShapeConfig:
    return ShapeConfig(**yaml.safe_load((conf_folder() / "model" / f"{name}.yaml").read_text())["shape"])


@pytest.mark.parametrize("name", KNOWN)
def test_the_weights_are_those_of_the_makers_files(name: str) -> None:
    assert Shape.from_config(shape_of_option(name)).weights == pytest.approx(KNOWN[name], rel=1e-3)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_the_size_in_its_name(name: str) -> None:
    size = re.search(r"([\d.]+)(b|m)\b", name.replace("_", " "))
    weights = Shape.from_config(shape_of_option(name)).weights
    if size is not None:
        assert weights == pytest.approx(float(size[1]) * (1e9 if size[2] == "b" else 1e6), rel=0.28)


def test_a_config_of_transformers_gives_the_sizes() -> None:
    for name in ("student", "teacher"):
        path = f"bundled:{name}"
        content = config_of_files(path, None)
        assert content is not None
        shape = shape_in(content)
        assert shape is not None
        assert Shape.from_config(shape).weights == pytest.approx(elements(Path(model_folder(path))), rel=5e-3)
    assert shape_in({"hidden_size": 8}) is None and config_of_files("no/such-model", None) is None


def elements(folder: Path) -> int:
    """The elements of all tensors of a safetensors file, by its header."""
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            size = 1
            for side in entry["shape"]:
                size *= side
            total += size
    return total


def test_adapters_are_what_is_trained() -> None:
    shape = shape_of_option("qwen7b")
    whole = Shape.from_config(shape)
    adapted = Shape.from_config(shape, LoraConfig(r=16, targets=["q_proj", "v_proj"]))
    assert adapted.trained == 28 * 16 * ((3584 + 3584) + (3584 + 512)) == adapted.weights - whole.weights
    assert whole.trained == whole.weights and adapted.linear == whole.linear


def test_a_model_named_by_its_path_alone_has_the_sizes_of_its_option() -> None:
    def source(path: str) -> Node[SourceSpec]:
        return Node(name="mine", spec=SourceSpec(path=path, revision=None, fingerprint=None))

    assert shape_of(source("Qwen/Qwen2.5-1.5B-Instruct"), {}) == shape_of_option("qwen1.5b")
    assert shape_of(source("nobody/none"), {}) is None
