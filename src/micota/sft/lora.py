"""Low-rank adapters through peft: add them to a model, save them, and merge them into its weights one at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from micota.config import LoraConfig
from micota.errors import ConfigError
from micota.export import Weight, add_adapter, form_of, named_weights

ALL_LINEAR = "all-linear"
ADAPTER = "default"  # peft's name of the first adapter
BASE, DOWN, UP = ".base_layer", f".lora_A.{ADAPTER}", f".lora_B.{ADAPTER}"  # in the names of weights


def adapt(model: Any, lora: LoraConfig, seed: int) -> Any:
    """Freeze the model and add adapters to it in place; on the meta device they have no values yet.

    Returns:
        peft's model around it.

    Raises:
        ConfigError: a target is no linear layer of the model.
    """
    import peft

    targets: Any = ALL_LINEAR if lora.targets == [ALL_LINEAR] else list(lora.targets)
    known = sorted({name.rsplit(".", 1)[-1] for name, _ in model.base_model.named_modules() if _is_linear(_)})
    unknown = [name for name in lora.targets if name not in (*known, ALL_LINEAR)]
    if unknown:
        raise ConfigError(f"sft.lora.targets={lora.targets}: {unknown[0]!r} is no linear layer; accepted: {known}")
    settings = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, settings)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if is_adapter(name) and not weight.is_meta:
                weight.copy_(initial(name, weight.shape, seed))
    return adapted


def _is_linear(module: Any) -> bool:
    return type(module).__name__ == "Linear"


def is_adapter(name: str) -> bool:
    """Whether a weight of this name belongs to an adapter."""
    return DOWN in name or UP in name


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
    adapted: Any, whole: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None = None
) -> list[Weight]:
    """The weights of the model under their names without adapters, each with its adapter added; adapted ones are
    rounded once, to ``dtype`` (None: that of the model)."""
    model = adapted.get_base_model()
    modules, everything = dict(model.named_modules()), dict(model.named_parameters())
    weights = []
    for name, weight in named_weights(model):
        if is_adapter(name):
            continue
        module, is_base, rest = name.partition(BASE)
        read = partial(whole, weight.detach())
        if is_base and rest == ".weight":
            pair = [everything[f"{module}{part}.weight"].detach() for part in (UP, DOWN)]
            read = partial(_adapted, whole, weight.detach(), pair, modules[module].scaling[ADAPTER], dtype)
        weights.append(Weight(module + rest, form_of(weight), read))
    return weights


def _adapted(
    whole: Callable[[torch.Tensor], torch.Tensor],
    weight: torch.Tensor,
    pair: list[torch.Tensor],
    scale: float,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """A weight with its adapter added."""
    up, down = (whole(part).float() for part in pair)
    return add_adapter(whole(weight), up, down, scale).to(dtype or weight.dtype)
