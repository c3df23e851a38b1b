"""Norms, rotations and gated MLPs of a model by Liger Kernel's fused Triton kernels (arXiv 2410.10989), on a GPU.

Liger's function for an architecture changes the modules of one model, and classes and functions in the module of
transformers that defines it. The latter would change every model of this process (a teacher, the small one of
``micota.sft.agreement`` on the CPU), so they are put back. The rotation, which no module computes, stays as a function
that chooses by the device of its input.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from micota.errors import ConfigError

PACKAGES = ("triton", "liger_kernel")
ROTATION = "apply_rotary_pos_emb"  # the name in modules of transformers
# Liger's kernels of gated MLPs, and the activations that they compute (as configs of transformers name them).
MLPS = {"swiglu": ("silu", "swish"), "geglu": ("gelu_pytorch_tanh",)}
PARTS = ("rope", "rms_norm", *MLPS)


def check(settings: Any, device: str) -> None:
    """Refuse ``trainer.kernels=liger`` where it cannot run.

    Args:
        settings: transformers' config of the model.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no GPU, a package is missing, or Liger has no kernels for the architecture.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if device != "cuda" or missing:
        reason = "a GPU" if device != "cuda" else f"the package {missing[0]}; pip install 'micota[liger]'"
        raise ConfigError(f"trainer.kernels=liger needs {reason}; accepted here: torch")
    if not parts_for(settings):
        raise ConfigError(
            f"trainer.kernels=liger: Liger has no kernels for models of type {settings.model_type!r}; accepted: torch"
        )


def parts_for(settings: Any) -> list[str]:
    """The parts of an architecture for which Liger has kernels; of gated MLPs only those with its activation."""
    function = _functions().get(settings.model_type)
    if function is None:
        return []
    text = settings.get_text_config()
    activation = getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", None)
    known = inspect.signature(function).parameters
    return [part for part in PARTS if part in known and (part not in MLPS or activation in MLPS[part])]


def use_liger(model: Any) -> None:
    """Let the modules of a model run Liger's kernels. Its other models, and the loss, stay as they are."""
    parts = parts_for(model.config)
    function = _functions()[model.config.model_type]
    known = inspect.signature(function).parameters
    wanted = {name: name in parts for name in (*PARTS, "cross_entropy", "fused_linear_cross_entropy") if name in known}
    module = sys.modules[type(model).__module__]
    plain: Any = getattr(module, ROTATION, None)
    with _restored(module):
        function(model=model, **wanted)
        fused: Any = getattr(module, ROTATION, None)
    if fused is not plain:
        setattr(module, ROTATION, _switched(plain, fused))


def _functions() -> dict[str, Callable[..., None]]:
    """Liger's function for each architecture, by transformers' name of it."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    functions: dict[str, Callable[..., None]] = MODEL_TYPE_TO_APPLY_LIGER_FN
    return functions


@contextmanager
def _restored(module: Any) -> Iterator[None]:
    """Put back what the block changes of a module, and of the forward methods of its classes."""
    before = dict(vars(module))
    classes: list[Any] = [value for value in before.values() if isinstance(value, type) and "forward" in vars(value)]
    methods = [(kind, vars(kind)["forward"]) for kind in classes]
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
        for kind, forward in methods:
            kind.forward = forward


def _runs_on(tensor: Any) -> bool:
    on_gpu: bool = tensor.is_cuda
    return on_gpu


def _switched(plain: Callable[..., Any], fused: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(plain, "switches", False):  # of an earlier model of the process
        return plain

    def rotate(query: Any, key: Any, *rest: Any, **options: Any) -> Any:
        if not _runs_on(query):
            return plain(query, key, *rest, **options)
        # Copies: the kernel rotates in place, and selective activation checkpointing keeps its inputs, the results of
        # products, for the backward pass, which would rotate them a second time.
        return fused(query.clone(), key.clone(), *rest, **options)

    rotate.switches = True  # type: ignore[attr-defined]
    return rotate
