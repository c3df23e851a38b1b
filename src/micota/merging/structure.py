"""What transformers makes of a config: the names of weights, which of them are tied, and layers of ``Conv1D``. No
weights are read or made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from micota.checkpoint import Checkpoint
from micota.errors import ConfigError
from micota.merging.slices import slices
from micota.pretrained import reading

OUTPUTS = ("lm_head.weight", "embed_out.weight")  # names of output embeddings
WRAPPERS = ("model", "transformer")  # parts of names that stand anywhere, or are left out of a bare model
LEFT_OVER = (".rotary_emb.inv_freq", ".masked_bias")  # buffers that old versions of transformers saved


@dataclass(frozen=True)
class Structure:
    """A model without values."""

    model: Any

    @classmethod
    def of(cls, folder: Path, config: Any) -> Structure:
        """The structure of the model in ``folder`` by its config.

        Raises:
            ModelError: transformers has no causal language model of this config.
        """
        with reading(folder, None, "config.json"), torch.device("meta"):
            return cls(AutoModelForCausalLM.from_config(config))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of weights by their names in the loaded model."""
        return {name: tuple(values.shape) for name, values in self.model.state_dict().items()}

    @cached_property
    def tied(self) -> frozenset[str]:
        """The names of weights that are one weight, of input and output embeddings."""
        names: dict[int, list[str]] = {}
        for name, weight in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(weight), []).append(name)
        return frozenset(name for same in names.values() if len(same) > 1 for name in same)

    @cached_property
    def transposed(self) -> frozenset[str]:
        """The names of modules whose weight is stored with inputs as rows, as of GPT-2."""
        return frozenset(name for name, module in self.model.named_modules() if isinstance(module, Conv1D))

    @property
    def output(self) -> str | None:
        """The name of the weight of the output embeddings; None without any."""
        layer = self.model.get_output_embeddings()
        weight = getattr(layer, "weight", None)
        return next((name for name, one in self.model.named_parameters(remove_duplicate=False) if one is weight), None)


def check_output(model: Checkpoint, config: Any) -> None:
    """Refuse a model whose files do not hold the output embeddings that its config describes: two tensors where the
    config ties them to the input embeddings, or none where it does not.

    Raises:
        ConfigError: a merge would lose one of two tensors, or have random numbers for output embeddings.
    """
    is_tied = config.get_text_config().tie_word_embeddings
    if is_tied != any(name.endswith(OUTPUTS) for name in model.entries):
        return
    structure = Structure.of(model.folder, config)
    if not is_tied:
        if structure.output is not None and stored_name(model, structure.output) not in model.entries:
            raise ConfigError(
                f"{model.folder}: no file has {structure.output}, and tie_word_embeddings is false in config.json; "
                "accepted: the files of a whole model"
            )
        return
    both = [name for one in sorted(structure.tied) if (name := stored_name(model, one)) in model.entries]
    if any(not _are_equal(model, both[0], other) for other in both[1:]):
        raise ConfigError(
            f"{model.folder}: config.json ties {' and '.join(both)}, whose values differ in the files, so that a merge "
            "would lose those of one; accepted: equal values, or tie_word_embeddings=false in config.json"
        )


def _are_equal(model: Checkpoint, first: str, second: str) -> bool:
    if model.entries[first].shape != model.entries[second].shape:
        return False
    cuts = slices(model.entries[first].shape)
    return all(torch.equal(model.read(first, a, b).float(), model.read(second, a, b).float()) for a, b in cuts)


def with_same_names(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The models of a merge with the names of the second one's files: a bare model is saved without ``model.``, and
    some have buffers that others lack and transformers ignores."""

    def is_left_over(name: str) -> bool:
        return name.endswith(LEFT_OVER) and any(stored_name(one, name) not in one.entries for one in checkpoints)

    like = {_inner(name): name for name in checkpoints[1].entries}
    result = []
    for checkpoint in checkpoints:
        names = {name: like.get(_inner(name), name) for name in checkpoint.entries if not is_left_over(name)}
        is_same = len(names) == len(checkpoint.entries) and all(name == new for name, new in names.items())
        is_clear = len({*names.values()}) == len(names)
        result.append(checkpoint if is_same or not is_clear else checkpoint.renamed(names))
    return result


def _inner(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split(".") if part not in WRAPPERS)


def stored_name(model: Checkpoint, name: str) -> str:
    """The tensor of the model's files that one of the loaded model is. transformers loads some models, as Gemma 3,
    with the same parts of names in another order; ``model.`` may stand anywhere."""
    if name in model.entries:
        return name
    same = [one for one in model.entries if sorted(_inner(one)) == sorted(_inner(name))]
    in_order = [one for one in same if _inner(one) == _inner(name)]
    return next((found[0] for found in (in_order, same) if len(found) == 1), name)
