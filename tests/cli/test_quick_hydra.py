"""Hydra, made quicker, composes what it composes by itself, and reads files again that have changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.base import Container, Metadata, Node

from micota.cli import app, quick_hydra


@pytest.fixture
def slow_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra and OmegaConf as their authors wrote them."""
    monkeypatch.delattr(ConfigStore, "__deepcopy__")
    monkeypatch.setattr(ConfigRepository, "load_config", quick_hydra._load)
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", quick_hydra._interpolation_map)
    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", quick_hydra._merge_defaults)
    monkeypatch.setattr(Container, "_re_parent", quick_hydra._set_parents)
    monkeypatch.delattr(Metadata, "__deepcopy__")


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every node of a config with all that it knows but its parent, which is checked."""
    content = node._value()
    is_leaf = not isinstance(content, dict | list)
    about = {name: value for name, value in vars(node._metadata).items() if name != "resolver_cache"}  # has the time
    yield path, (type(node), about, content if is_leaf else len(content))
    if not is_leaf:
        assert isinstance(node, DictConfig | ListConfig)
        for key, child in content.items() if isinstance(content, dict) else enumerate(content):
            assert child._get_parent() is node and child._key() == key, f"{path}.{key}"
            yield from nodes(child, f"{path}.{key}")


LINES = {
    "an experiment": (
        "pipeline",
        ["experiment=tiny", "compare.recipes=[strong]", "seed=3", "+compare.axes.student=[tiny]", "hydra.job.name=a"],
    ),
    "options for several parts": ("evaluate", ["model@large=qwen7b", "data=mix_long", "bench=[aime24]"]),
}


@pytest.mark.parametrize("line", LINES)
def test_it_composes_what_hydra_composes(line: str, request: pytest.FixtureRequest) -> None:
    command, overrides = LINES[line]
    with hydra.initialize_config_dir(str(app.CONF), version_base="1.3"):
        quick = hydra.compose(command, overrides)
        apart = quick_hydra.compose(command, overrides, merged := {})
        again = quick_hydra.compose(command, overrides, merged)
        request.getfixturevalue("slow_hydra")
        slow = hydra.compose(command, overrides)
    assert dict(nodes(quick)) == dict(nodes(apart)) == dict(nodes(again)) == dict(nodes(slow))
    assert len(merged) == 1


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        first = hydra.compose("own")
        first.a = 5
        assert hydra.compose("own").a == 1, "who changes a config changes no other"
        (tmp_path / "own.yaml").write_text("a: 20\n")
        assert hydra.compose("own").a == 20


def test_a_file_that_has_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: [read.append(file.name), load(file)][1])
    (tmp_path / "own.yaml").write_text("defaults: [other]\n")
    (tmp_path / "other.yaml").write_text("a: 1\n")
    for _ in range(2):  # Hydra finds its plugins at the first, and makes its classes again
        with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
            assert hydra.compose("own") == {"a": 1}
    assert sorted(Path(name).name for name in read if name.startswith(str(tmp_path))) == ["other.yaml", "own.yaml"]


def test_a_choice_may_refer_to_another(tmp_path: Path) -> None:
    for name, text in {"one/x.yaml": "a: 1\n", "two/x.yaml": "b: 2\n", "two/y.yaml": "b: 3\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own.yaml").write_text("defaults: [one: x, two: '${one}', _self_]\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert hydra.compose("own") == {"one": {"a": 1}, "two": {"b": 2}}
