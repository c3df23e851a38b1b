"""A base model in 4 bits under adapters: QLoRA (arXiv 2305.14314).

The linear layers of the base, without the output head, are held as NF4: 4-bit codes in blocks of 64 weights, whose
scales are quantised to 8 bits too (double quantisation, section 3): 4.13 bits a weight. A product computes them back in
the dtype of computation. Only the adapters are trained, so that the rounding of the base is never changed or stored:
a resumed run quantises the files again, and the export adds the adapters to the weights of the files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from micota.config import SftConfig, TrainerConfig
from micota.config.optimizers import BITSANDBYTES
from micota.errors import ConfigError

Read = Callable[[str, int, int], torch.Tensor]  # name, first row, row after the last -> these rows
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it misses a package that is not needed


def check(sft: SftConfig, trainer: TrainerConfig) -> None:
    """Refuse a quantised base that cannot be trained on, before anything is made.

    Raises:
        ConfigError: there are no adapters, or bitsandbytes is missing.
    """
    if trainer.quantize == "none":
        return
    if sft.lora is None or sft.lora.r is None:
        raise ConfigError(
            f"trainer.quantize={trainer.quantize} without adapters: weights of 4 bits cannot be trained; accepted: "
            "sft.lora.r above 0 with it, as student.sft.lora.r=16, or trainer.quantize=none"
        )
    if find_spec(BITSANDBYTES) is None:
        raise ConfigError(
            f"trainer.quantize={trainer.quantize} needs the package {BITSANDBYTES}, which is not installed; accepted: "
            f"pip install 'micota[{BITSANDBYTES}]', or trainer.quantize=none"
        )


def fill_quantised(model: Any, read: Read, trainer: TrainerConfig, device: torch.device) -> None:
    """Fill a model on the meta device in place, with the linear layers of its base in 4 bits on ``device``. Memory
    holds one whole weight at a time besides.

    Args:
        read: returns rows of a weight by name, in the dtype of weights that are not quantised.
    """
    computed = torch.float32 if trainer.precision == "32-true" else torch.bfloat16
    inside = {id(module) for module in model.base_model.modules()}  # without the output head
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if id(module) in inside and isinstance(module, torch.nn.Linear):
            parent, _, leaf = name.rpartition(".")
            setattr(modules[parent], leaf, _quantised(module, read(f"{name}.weight", 0, len(module.weight)), computed,
                                                      trainer.quantize, device))  # fmt: skip
    for name, weight in list(model.named_parameters()):
        if weight.is_meta:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(read(name, 0, len(weight)).clone()))
    model.tie_weights()
    model.is_loaded_in_4bit = True  # peft reads it, and adds adapters for such layers


def _quantised(
    linear: torch.nn.Linear, weight: torch.Tensor, computed: torch.dtype, kind: str, device: torch.device
) -> Any:
    """A linear layer with ``weight`` in 4 bits on ``device``; its bias is still on the meta device."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    made: Any = Linear4bit(
        linear.in_features, linear.out_features, bias=linear.bias is not None, compute_dtype=computed, device="meta"
    )
    made.weight = Params4bit(weight.contiguous(), requires_grad=False, quant_type=kind, module=made).to(device)
    # In evaluation on some CPUs it would pack the weight in another order, and later products have no gradients then.
    made.support_avx512bf16_for_cpu = False
    return made


def is_quantised(weight: torch.Tensor) -> bool:
    """Whether a weight is held in 4 bits."""
    return getattr(weight, "quant_state", None) is not None


def shape_of(weight: Any) -> tuple[int, ...]:
    """The shape of a weight before it was quantised, or of another weight."""
    return tuple(weight.quant_state.shape if is_quantised(weight) else weight.shape)


def dtype_of(weight: Any) -> torch.dtype:
    """The dtype of a weight before it was quantised, or of another weight."""
    dtype: torch.dtype = weight.quant_state.dtype if is_quantised(weight) else weight.dtype
    return dtype


def values_of(weight: Any) -> torch.Tensor:
    """The values that products use: those of a weight in 4 bits, computed back."""
    if not is_quantised(weight):
        plain: torch.Tensor = weight
        return plain
    from bitsandbytes.functional import dequantize_4bit

    values: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return values
