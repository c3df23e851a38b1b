"""All methods against mergekit on the same masks: whole models of three architectures, tied and untied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import thorough_after
from toy_models import ASK, family, spec, tensors

from micota.config import MERGE_METHODS
from micota.merging import plan as recipe
from micota.merging.masks import uniforms
from micota.merging.merge import merge_models

KEY = (1, 2)  # one for all tensors: mergekit's functions do not know which tensor they prune
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "task_arithmetic": ({}, {}),
    "dare_linear": ({"density": 0.4, "rescale": "norm"}, {"rescale": True}),
    "dare_ties": ({"density": 0.4, "rescale": "norm"}, {"rescale": True}),
    "ties": ({"density": 0.4, "normalize": True}, {"normalize": True}),
    "della": ({"density": 0.4, "epsilon": 0.2, "rescale": "norm"}, {"rescale": True, "normalize": False}),
    "breadcrumbs": ({"density": 0.4, "gamma": 0.05}, {}),
    "della_linear": ({"density": 0.4, "epsilon": 0.2, "rescale": "norm"}, {"rescale": True}),
    "breadcrumbs_ties": ({"density": 0.4, "gamma": 0.05}, {}),
    "sce": ({"density": 0.4}, {"select_topk": 0.4}),
    "linear": ({}, {}),
    "slerp": ({}, {}),
}
MODELS = [(name, tied) for name in ("qwen2", "llama", "gemma2") for tied in (True, False)]


@pytest.fixture(autouse=True)
def _same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def bernoulli(probabilities: torch.Tensor) -> torch.Tensor:
        numbers = uniforms(KEY, 0, probabilities.numel()).view_as(probabilities)
        return (numbers < probabilities).to(probabilities.dtype)

    monkeypatch.setattr(recipe, "mask_key", lambda seed, model, tensor: KEY)
    monkeypatch.setattr(torch, "bernoulli", bernoulli)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], list[Path]]:
    folder = tmp_path_factory.mktemp("models")
    return {(name, tied): family(folder, name, tied) for name, tied in MODELS}


def with_mergekit(method: str, base: Path, models: list[dict[str, Any]], shared: dict[str, Any], folder: Path) -> Path:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    parameters = {"parameters": shared} if shared else {}
    based = {} if method == "linear" else {"base_model": str(base)}
    configuration = {"merge_method": method, "models": models, "dtype": "float32", **based, **parameters}
    options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(configuration), str(folder), options=options)
    return folder


def assert_same(folder: Path, reference: Path) -> None:
    expected = tensors(reference)
    for name, values in tensors(folder).items():
        torch.testing.assert_close(
            values, expected[name], rtol=1e-5, atol=1e-7, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_every_method_is_compared() -> None:
    assert SETTINGS.keys() == MERGE_METHODS.keys()


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=[] if model[0] == "qwen2" else pytest.mark.thorough) for model in MODELS],
    ids=lambda model: f"{model[0]}-{'tied' if model[1] else 'untied'}",
)
def test_one_fine_tuned_model(
    families: dict[tuple[str, bool], list[Path]], tmp_path: Path, method: str, model: tuple[str, bool]
) -> None:
    base, tuned, _ = families[model]
    settings, shared = SETTINGS[method]
    recipe_of = spec(method, weight=0.3, **settings)
    merge_models(recipe_of, (str(base), None), [(str(tuned), None)], tmp_path, ASK)
    names = ("density", "epsilon", "gamma")
    parameters = {name: settings[name] for name in names if name in settings}
    if method == "linear":
        models = [
            {"model": str(base), "parameters": {"weight": 0.7}}, {"model": str(tuned), "parameters": {"weight": 0.3}},
        ]  # fmt: skip
    elif method == "slerp":
        models, shared = [{"model": str(base)}, {"model": str(tuned)}], {"t": 0.3}
    else:
        models = [{"model": str(tuned), "parameters": {"weight": 0.3, **parameters}}]
    assert_same(tmp_path, with_mergekit(method, base, models, shared, tmp_path / "mergekit"))


@pytest.mark.parametrize("method", [name for name in SETTINGS if name not in ("linear", "slerp")])
@pytest.mark.parametrize("normalize", [False, True])
def test_two_models_merged_into_their_base(
    families: dict[tuple[str, bool], list[Path]], tmp_path: Path, method: str, normalize: bool
) -> None:
    base, tuned, instruct = families["qwen2", True]
    settings, shared = SETTINGS[method]
    fields = {**settings, "normalize": normalize, "weight": 0.6, "instruct_weight": 0.3, "instruct_density": 0.7}
    tuned_locations = [(str(tuned), None), (str(instruct), None)]
    merge_models(spec(method, **fields), (str(base), None), tuned_locations, tmp_path, ASK)
    extra = {name: settings[name] for name in ("epsilon", "gamma") if name in settings}
    models = [
        {"model": str(tuned), "parameters": {"weight": 0.6, "density": settings.get("density", 1.0), **extra}},
        {"model": str(instruct), "parameters": {"weight": 0.3, "density": 0.7, **extra}},
    ]
    reference = with_mergekit(method, base, models, {**shared, "normalize": normalize}, tmp_path / "mergekit")
    assert_same(tmp_path, reference)


@pytest.mark.parametrize("setting", [
    [0.2, 0.6], [0.2, 0.9, 0.4], [{"filter": "self_attn", "value": 0.2}, {"filter": "mlp", "value": [0.3, 0.8]},
    {"value": 0.5}],
], ids=["two", "three", "by module"])  # fmt: skip
def test_gradients_mean_what_they_mean_in_mergekit(
    families: dict[tuple[str, bool], list[Path]], tmp_path: Path, setting: list[Any]
) -> None:
    base, tuned, _ = families["llama", False]
    recipe_of = spec("dare_ties", rescale="norm", density=setting, weight=setting)
    merge_models(recipe_of, (str(base), None), [(str(tuned), None)], tmp_path, ASK)
    models = [{"model": str(tuned), "parameters": {"weight": setting, "density": setting}}]
    assert_same(tmp_path, with_mergekit("dare_ties", base, models, {"rescale": True}, tmp_path / "mergekit"))


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_ties", "breadcrumbs_ties", "della_linear"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("weight", "instruct_weight", "scale"), thorough_after(1, [(1.4, -0.3, 0.7), (0.6, 0.3, 1.0), (-0.5, 1.2, -2.0)])
)
def test_weights_beyond_0_and_1_and_the_scale_of_the_sum(
    families: dict[tuple[str, bool], list[Path]],
    tmp_path: Path,
    method: str,
    normalize: bool,
    weight: float,
    instruct_weight: float,
    scale: float,
) -> None:
    base, tuned, instruct = families["qwen2", True]
    settings, shared = SETTINGS[method]
    density = settings.get("density", 1.0)
    fields = {"weight": weight, "instruct_weight": instruct_weight, "instruct_density": density, "density": density}
    recipe_of = spec(method, **{**settings, **fields, "normalize": normalize, "scale": scale})
    merge_models(recipe_of, (str(base), None), [(str(tuned), None), (str(instruct), None)], tmp_path, ASK)
    extra = {name: settings[name] for name in ("epsilon", "gamma") if name in settings} | {"density": density}
    models = [
        {"model": str(tuned), "parameters": {"weight": weight, **extra}},
        {"model": str(instruct), "parameters": {"weight": instruct_weight, **extra}},
    ]
    shared = {**shared, "normalize": normalize, "lambda": scale}
    assert_same(tmp_path, with_mergekit(method, base, models, shared, tmp_path / "mergekit"))
