"""Models with Liger's kernels in Triton's interpreter against the same models of transformers; prints relative errors
of losses and gradients as JSON.

Run as a program, with ``TRITON_INTERPRET=1``: Triton reads it when it is imported.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import numpy as np
import torch
import triton.language as tl
from transformers import AutoConfig
from transformers.models.auto import AutoModelForCausalLM
from triton.runtime import interpreter

from micota.sft import liger
from micota.sft.activation_checkpointing import ActivationCheckpointing

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0, "sliding_window": 8,
}  # fmt: skip
TYPES = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "granite", "olmo2", "smollm3")


def converted(argument: Any, convert: Any = interpreter._implicit_cvt) -> Any:
    """An argument of a kernel as the interpreter passes it. It leaves floats as they are; on a GPU they are scalars of
    float32, which Liger's norms convert."""
    if isinstance(argument, float):
        return tl.tensor(interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)
    return convert(argument)


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    settings = AutoConfig.for_model(kind, **SIZES)
    settings.layer_types = getattr(settings, "layer_types", None) and settings.layer_types[:2]
    model: Any = AutoModelForCausalLM.from_config(settings, attn_implementation="eager")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # gains that are not all alike
    return model.train()


def step(model: Any, kind: str = "none") -> tuple[float, torch.Tensor]:
    """Loss and gradient of two packed sequences, with a kind of activation checkpointing."""
    ActivationCheckpointing(model, {kind: 21})(21)
    ids = torch.randint(2, 40, (1, 21), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(9), torch.arange(12)])[None]
    loss = model(input_ids=ids, position_ids=positions, labels=ids, use_cache=False).loss
    loss.backward()
    return float(loss.detach()), torch.cat([w.grad.float().flatten() for w in model.parameters() if w.grad is not None])


def errors(kind: str) -> dict[str, Any]:
    plain, fused = model_of(kind), model_of(kind)
    module = sys.modules[type(plain).__module__]
    (loss, grads), before = step(plain), dict(vars(module))
    liger.use_liger(fused)
    changed = sorted(name for name, value in vars(module).items() if before.get(name) is not value)
    found: dict[str, Any] = {"parts": liger.parts_for(fused.config), "changed": changed}
    again, same = step(model_of(kind))  # another model of the process, on a CPU
    found["others"] = again == loss and bool(torch.equal(same, grads))
    liger._runs_on = lambda tensor: True  # in the interpreter, as on a GPU
    for checkpointing in ("none", "selective", "full"):
        fused.zero_grad()
        value, other = step(fused, checkpointing)
        found[checkpointing] = [abs(value - loss) / loss, float((other - grads).norm() / grads.norm())]
    liger._runs_on = lambda tensor: False
    return found


def interpret() -> None:
    """Give the interpreter what it lacks: scalars, and functions of CUDA's library of mathematics."""
    interpreter._implicit_cvt = converted
    importlib.import_module("liger_kernel.ops.rms_norm").rsqrt = lambda x: 1 / tl.sqrt(x)
    importlib.import_module("liger_kernel.ops.geglu").tanh = lambda x: 1 - 2 / (tl.exp(2 * x) + 1)


if __name__ == "__main__":
    interpret()
    print(json.dumps({kind: errors(kind) for kind in sys.argv[1:] or TYPES}))
