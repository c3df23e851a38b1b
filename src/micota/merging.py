"""Merge models through mergekit's Python API, and check what comes out."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.config import ConfigError
from micota.export import export

Location = tuple[str, str | None]  # folder or hub id, and revision


def merge_models(recipe: dict[str, Any], base: Location, tuned: Location, folder: Path, seed: int) -> dict[str, float]:
    """Merge ``tuned`` into ``base`` and write the result, with the tokenizer and template of ``tuned``.

    Args:
        recipe: method, density, weight, rescale, normalize and dtype, named as in mergekit.
        base: the model before SFT; ``tuned``: after it.
        seed: of the DARE masks.

    Returns:
        Norms of the task vector (after - before) and of what the merge made of it, over all weights.

    Raises:
        ConfigError: the two models do not fit each other, or the merge is not a finite model.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    before, after = _load(base), _load(tuned)
    _check_same_shape(before, after, base, tuned)
    configuration = MergeConfiguration.model_validate(
        {
            "merge_method": recipe["method"],
            "base_model": _reference(base),
            "models": [
                {
                    "model": _reference(tuned),
                    "parameters": {"density": recipe["density"], "weight": recipe["weight"]},
                }
            ],
            "parameters": {"rescale": recipe["rescale"], "normalize": recipe["normalize"]},
            "dtype": recipe["dtype"],
        }
    )
    draft = folder / "mergekit"
    # Left from a killed run, if it is there: mergekit does not promise to overwrite every file.
    shutil.rmtree(draft, ignore_errors=True)
    options = MergeOptions(random_seed=seed, quiet=True, copy_tokenizer=False, write_model_card=False)
    run_merge(configuration, str(draft), options=options)
    merged = _load((str(draft), None))
    norms = _check_merged(merged, before, after)
    # mergekit takes tokenizer and generation config from the base; the tuned model's are those it was taught with.
    merged.generation_config = after.generation_config
    export(merged, AutoTokenizer.from_pretrained(tuned[0], revision=tuned[1]), folder)
    shutil.rmtree(draft)
    return norms


def _load(location: Location) -> Any:
    return AutoModelForCausalLM.from_pretrained(location[0], revision=location[1], dtype="auto")


def _reference(location: Location) -> dict[str, Any]:
    """A model as mergekit takes it in parts: in a string, ``+`` would name a LoRA adapter."""
    return {"model": {"path": location[0], "revision": location[1]}}


def _check_same_shape(before: Any, after: Any, base: Location, tuned: Location) -> None:
    shapes = [{name: tuple(t.shape) for name, t in model.state_dict().items()} for model in (before, after)]
    differing = sorted(
        name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
    )
    if differing:
        name = differing[0]
        raise ConfigError(
            f"{base[0]} and {tuned[0]} cannot be merged: {name} is {shapes[0].get(name)} in the one and "
            f"{shapes[1].get(name)} in the other; accepted: a model and its own fine-tune"
        )


def _check_merged(merged: Any, before: Any, after: Any) -> dict[str, float]:
    """Shapes, ties and finite values of the merged model; norms of the task vectors."""
    ours, old, new = (model.state_dict() for model in (merged, before, after))
    if {name: t.shape for name, t in ours.items()} != {name: t.shape for name, t in old.items()}:
        raise ConfigError("the merge changed the shape of a weight")
    if merged.config.tie_word_embeddings != before.config.tie_word_embeddings:
        raise ConfigError("the merge changed whether embeddings are tied")
    squares = {"task_vector_norm": 0.0, "merged_vector_norm": 0.0}
    for name, weight in ours.items():
        if not torch.isfinite(weight).all():
            raise ConfigError(f"the merge made values of {name} that are not finite")
        squares["task_vector_norm"] += float((new[name].float() - old[name].float()).pow(2).sum())
        squares["merged_vector_norm"] += float((weight.float() - old[name].float()).pow(2).sum())
    return {name: math.sqrt(square) for name, square in squares.items()}
