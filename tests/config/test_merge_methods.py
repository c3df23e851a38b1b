"""The table of merge methods: every entry is an option, a half-added one is refused where it is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import thorough_after

import micota.merging.methods  # noqa: F401  (which looks for the functions that entries name)
from micota import graph
from micota.config import MERGE_METHODS, PRUNINGS, MergeMethod, PruningKind
from micota.errors import ConfigError

METHOD = MergeMethod(name="keep_largest", summary="the largest changes kept", pruning="magnitude")
KIND = PruningKind(name="halves", mask="micota.merging.pruning:at_random")


@pytest.mark.parametrize("name", thorough_after(4, [*MERGE_METHODS]))
def test_every_method_is_an_option_with_its_settings(composed: Callable[..., Any], name: str) -> None:
    merge = composed("merge", f"merge={name}").merge
    assert merge.method == name
    assert {key: getattr(merge, key) for key in MERGE_METHODS[name].settings} == MERGE_METHODS[name].settings


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_a_method_takes_the_rescalings_that_it_knows_and_no_other(composed: Callable[..., Any], name: str) -> None:
    known = MERGE_METHODS[name].rescalings
    for rescale in ("dare", "norm", "none"):
        if rescale in known:
            assert composed("merge", f"merge={name}", f"merge.rescale={rescale}").merge.rescale == rescale
        else:
            text = f"rescale={rescale} with method={name}: .* accepted: {' or '.join(known)}"
            with pytest.raises(ConfigError, match=text):
                composed("merge", f"merge={name}", f"merge.rescale={rescale}")


@pytest.mark.usefixtures("open_tables")
@pytest.mark.parametrize(("entry", "words"), [
    (replace(METHOD, pruning="largest"), "has pruning 'largest'; there are random, ranks, magnitude, outliers"),
    (replace(METHOD, settings={"rescale": "dare"}), "has rescale 'dare', and knows norm, none"),
    (replace(METHOD, settings={"densety": 0.5}), "has setting 'densety'; there are method, density, weight"),
    (replace(METHOD, combine="micota.merging.methods:mean"), "'micota.merging.methods:mean', which does not exist"),
    (replace(METHOD, name="ties"), "'ties' is added twice"),
])  # fmt: skip
def test_a_half_added_method_is_refused_at_once(entry: MergeMethod, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        MERGE_METHODS.add(entry)
    assert MERGE_METHODS.get(entry.name) is not entry


@pytest.mark.usefixtures("open_tables")
@pytest.mark.parametrize("mask", ["micota.merging.pruning:halved", "micota.merging.halved:mask", "halved"])
def test_a_pruning_without_its_function_is_refused_at_once(mask: str) -> None:
    with pytest.raises(TypeError, match=f"pruning 'halves' has mask '{mask}', which does not exist"):
        PRUNINGS.add(replace(KIND, mask=mask))


def test_a_method_of_several_models_needs_them_and_reads_no_weight(composed: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"merge\.method=sce needs two fine-tuned models and their base"):
        graph.merged(composed("merge", "merge=sce"))
    with pytest.raises(ConfigError, match=r"target_length_ratio=0\.5 with method=sce, which has no weight"):
        composed("merge", "merge=sce", "merge.target_length_ratio=0.5")
    keys = {
        graph.merged(composed("merge", "merge=sce", "merge.base.path=a/b", *more)).key
        for more in ([], ["merge.weight=0.3"], ["merge.scale=2"], ["merge.instruct_weight=0.1"])
    }
    assert len(keys) == 1


def test_the_scale_enters_keys_only_where_it_is_not_1(composed: Callable[..., Any]) -> None:
    merged = [graph.merged(composed("merge", "merge=ties", f"merge.scale={scale}")) for scale in (1, 1.0, 2)]
    assert merged[0].key == merged[1].key != merged[2].key
    assert "scale" not in merged[0].content["spec"] and merged[2].content["spec"]["scale"] == 2
