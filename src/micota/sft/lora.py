"""Low-rank adapters through peft: add them to a model, save them, and merge them into its weights one at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from micota.checkpoint import Form
from micota.config import LoraConfig
from micota.config.sft import ALL_LINEAR, is_at
from micota.errors import ConfigError
from micota.export import Weight, add_adapter, form_of, named_weights
from micota.sft import quantizing
from micota.sft.shape import ADAPTER

BASE, DOWN, UP = ".base_layer", f".lora_A.{ADAPTER}", f".lora_B.{ADAPTER}"  # in the names of weights
LENGTHS = f".lora_magnitude_vector.{ADAPTER}"  # of DoRA: one number for each row of a weight


def adapt(model: Any, lora: LoraConfig, seed: int) -> Any:
    """Freeze the model and add adapters to it in place; on the meta device they have no values yet.

    Returns:
        peft's model around it.

    Raises:
        ConfigError: a target is no linear layer of the model.
    """
    import peft

    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if LENGTHS in name:
                weight.data = lengths(quantizing.values_of(model.get_parameter(base_of(name))))
            elif is_adapter(name) and not weight.is_meta:
                weight.copy_(initial(name, weight.shape, seed))
    return adapted


def _targets(model: Any, lora: LoraConfig) -> Any:
    """The linear layers with adapters, in the words of peft: names as they are, and full names for other patterns.

    Raises:
        ConfigError: an entry covers no linear layer.
    """
    if lora.targets == [ALL_LINEAR]:
        return ALL_LINEAR
    inside = {id(module) for module in model.base_model.modules()}  # without the output layer
    linear = [name for name, module in model.named_modules() if _is_linear(module) and id(module) in inside]
    known = sorted({name.rsplit(".", 1)[-1] for name in linear})
    for target in lora.targets:
        if target != ALL_LINEAR and not any(is_at(target, name) for name in linear):
            raise ConfigError(
                f"sft.lora.targets={lora.targets}: {target!r} is no linear layer; accepted: {known}, or regular "
                f"expressions of full names, as {linear[0]!r}"
            )
    if set(lora.targets) <= set(known):
        return list(lora.targets)
    return [name for name in linear if lora.covers(name)]


def _is_linear(module: Any) -> bool:
    return type(module).__name__ in ("Linear", "Linear4bit")


def is_adapter(name: str) -> bool:
    """Whether a weight of this name belongs to an adapter."""
    return DOWN in name or UP in name or LENGTHS in name


def base_of(name: str) -> str:
    """The name of the weight that an adapter of this name changes, in a model with adapters."""
    for part in (DOWN, UP, LENGTHS):
        name = name.replace(f"{part}.weight", f"{BASE}.weight")
    return name


def lengths(weight: torch.Tensor) -> torch.Tensor:
    """The Euclidean lengths of the rows of a weight, in float32: m of DoRA before training (arXiv 2402.09353, 4.1).

    Args:
        weight: (rows, columns), or some of the rows.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(weight.detach().float(), dim=1)
    return norms


def initial(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """The initial value of an adapter, as in peft: A uniform and B zero. The seed depends on the name, so that ranks
    need no common order of sampling."""
    values = torch.zeros(shape)
    if DOWN in name:
        # B is 0, so that training starts from the unchanged model (arXiv 2106.09685, section 4.1).
        bound = shape[1] ** -0.5  # kaiming_uniform_ with a = sqrt(5)
        values.uniform_(
            -bound, bound, generator=torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode()))
        )
    return values


def save(adapted: Any, folder: Path, whole: Callable[[torch.Tensor], torch.Tensor], *, writes: bool) -> None:
    """Write the adapter; arguments as of ``export_streamed``. Every rank must call this function."""
    weights = {name: whole(w.detach()).cpu() for name, w in adapted.named_parameters() if is_adapter(name)}
    if writes:
        adapted.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)


def merged_weights(
    adapted: Any,
    whole: Callable[[torch.Tensor], torch.Tensor],
    dtype: torch.dtype | None = None,
    base: quantizing.Read | None = None,
) -> list[Weight]:
    """The weights of the model under their names without adapters, each with its adapter added; adapted ones are
    rounded once, to ``dtype`` (None: that of the model).

    Args:
        whole: gathers a weight in shards.
        base: reads rows of the base model, for weights that are in 4 bits here: adapters are added to those before.
    """
    model = adapted.get_base_model()
    modules, everything = dict(model.named_modules()), dict(model.named_parameters())
    weights = []
    for name, weight in named_weights(model):
        if is_adapter(name):
            continue
        module, is_base, rest = name.partition(BASE)
        read, form = partial(whole, weight.detach()), form_of(weight)
        if quantizing.is_quantised(weight):
            assert base is not None, "a model in 4 bits is exported with the weights of its files"
            shape = quantizing.shape_of(weight)
            read = partial(base, module + rest, 0, shape[0])
            form = Form(shape, quantizing.dtype_of(weight))
        if is_base and rest == ".weight":
            pair = [everything[f"{module}{part}.weight"].detach() for part in (UP, DOWN)]
            rows = everything.get(f"{module}{LENGTHS}.weight")
            trained = None if rows is None else rows.detach()
            read = partial(_adapted, read, whole, pair, trained, modules[module].scaling[ADAPTER], dtype)
        weights.append(Weight(module + rest, form, read))
    return weights


def _adapted(
    read: Callable[[], torch.Tensor],
    whole: Callable[[torch.Tensor], torch.Tensor],
    pair: list[torch.Tensor],
    rows: torch.Tensor | None,
    scale: float,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """The weight that ``read`` returns with its adapter added; ``rows`` are the trained lengths of its rows (DoRA)."""
    up, down = (whole(part).float() for part in pair)
    weight = read()
    merged = add_adapter(weight.to(up.device), up, down, scale)
    if rows is not None:  # W' = m (W + s B A) / |W + s B A|, by rows (arXiv 2402.09353, equation 5)
        merged *= (whole(rows).float() / lengths(merged))[:, None]
    return merged.to(dtype or weight.dtype)
