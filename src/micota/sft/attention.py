"""Attention within the sequences of packed rows: the available kernels, and the choice of one for a run.

The kernels are registered with transformers' ``AttentionInterface``. They read the borders of sequences from
``packing.borders``, so that no mask of row x row is built.
"""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from micota.errors import ConfigError
from micota.sft.context_parallel import divided

# The kernels of this module and those of transformers, by their names in transformers. No name here contains "flash":
# transformers takes such a name for a kernel of the hub, and looks for its package.
BY_SEQUENCE = {"flash_attn": "micota_fa2", "varlen": "micota_varlen", "sequences": "micota_sequences"}
OF_TRANSFORMERS = {"sdpa": "sdpa", "flex": "flex_attention", "eager": "eager"}


def choose(wanted: str, device: str, config: Any, precision: str = "bf16-mixed") -> str:
    """The kernel to use: ``wanted``, or the fastest available one for ``auto``.

    Args:
        wanted: a value of ``trainer.attention``.
        device: ``cpu`` or ``cuda``.
        config: transformers' config of the model.
        precision: a value of ``trainer.precision``.

    Raises:
        ConfigError: the kernel is not available, or does not support the precision or a feature of the model.
    """
    if wanted == "auto":
        fast: tuple[str, ...] = ("flash_attn", "varlen", "flex") if is_capped(config) else ("flash_attn", "varlen")
        return next(name for name in (*fast, "sequences") if _objection(name, device, config, precision) is None)
    objection = _objection(wanted, device, config, precision)
    if objection is None:
        return wanted
    names = [*BY_SEQUENCE, *OF_TRANSFORMERS]
    accepted = ", ".join(["auto", *(n for n in names if _objection(n, device, config, precision) is None)])
    raise ConfigError(f"trainer.attention={wanted!r} {objection}; accepted here: {accepted}")


def _objection(kernel: str, device: str, config: Any, precision: str) -> str | None:
    """Why a run cannot use a kernel, or None."""
    if device != "cuda" and kernel in ("flash_attn", "varlen", "flex"):
        return "trains on a GPU only"
    if kernel == "flash_attn" and find_spec("flash_attn") is None:
        return "needs the package flash-attn"
    if kernel in ("flash_attn", "varlen"):
        if precision == "32-true":
            return "computes in 16 bits, and trainer.precision is '32-true'"
        if (unfit := _heads_without_flash(config)) is not None:
            return unfit
    # FlashAttention-2 and flex can bound the scores; PyTorch's sdpa and varlen cannot, and would ignore the bound.
    if kernel in ("sdpa", "varlen") and is_capped(config):
        return f"would leave out the bound that {config.model_type} puts on attention scores (attn_logit_softcapping)"
    dropout = getattr(config.get_text_config(), "attention_dropout", 0.0)
    if kernel in ("varlen", "flex") and dropout:
        return f"has no dropout, and the model has attention_dropout={dropout:g}"
    return None


def _heads_without_flash(config: Any) -> str | None:
    """Why FlashAttention does not support the heads of a model, or None. It takes sizes of up to 256 that 8 divides,
    one size for queries, keys and values (the checks of ``mha_varlen_fwd``)."""
    text = config.get_text_config()
    keys = getattr(text, "qk_head_dim", None) or getattr(text, "head_dim", None)
    keys = keys or text.hidden_size // text.num_attention_heads
    values = getattr(text, "v_head_dim", None) or keys
    if keys != values:
        return f"needs heads of one size, and {text.model_type} has keys of {keys} and values of {values}"
    return f"has no heads of size {keys}; it takes multiples of 8 up to 256" if keys % 8 or keys > 256 else None


def is_capped(config: Any) -> bool:
    """Whether a model bounds its attention scores, as Gemma 2 does."""
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def implementation(kernel: str) -> str:
    """The ``attn_implementation`` of transformers for a kernel."""
    return (BY_SEQUENCE | OF_TRANSFORMERS)[kernel]


def _rows_as_one(states: torch.Tensor) -> torch.Tensor:
    """rows x heads x width x size -> (rows * width) x heads x size."""
    return states.transpose(1, 2).flatten(0, 1)


def _flat(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values, (rows * width) x heads x size, in one dtype.

    Under autocast rotary tables, and so queries and keys, stay float32 while values are bfloat16. FlashAttention
    refuses that.
    """
    return (
        _rows_as_one(query.to(value.dtype)),
        _rows_as_one(key.to(value.dtype)),
        _rows_as_one(value),
    )


def _shared(states: torch.Tensor, groups: int) -> torch.Tensor:
    """Repeat key or value heads (dimension 1) for the query heads that share them."""
    return states if groups == 1 else states.repeat_interleave(groups, dim=1)


def by_sequence(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    lengths: list[int],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """PyTorch's kernel on each sequence in turn: no work across borders, on any device.

    Shapes as in transformers: query rows x heads x width x size, the result rows x width x heads x size.
    """
    rows, heads, width, _size = query.shape
    groups = heads // key.shape[1]
    # Heads x (rows * width) x size: a sequence is then a slice of dimension 1, without a copy.
    parts = [
        torch.split_with_sizes(_shared(states, count).transpose(0, 1), lengths, dim=1)
        for states, count in zip(_flat(query, key, value), (1, groups, groups), strict=True)
    ]
    outputs = [
        _attend(q[None], k[None], v[None], scaling, dropout, sliding_window, softcap)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outputs).view(rows, width, heads, -1), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention of one sequence, 1 x heads x length x size -> length x heads x size."""
    length = query.shape[2]
    # Without a mask PyTorch uses its flash kernel, which needs no memory of length x length.
    mask = None
    if softcap is not None or (window is not None and window < length):
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        # Query i sees keys i - window + 1 to i.
        if window is not None and window < length:
            mask = mask.triu(1 - window)
    if softcap is None:
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        )
    else:
        assert mask is not None
        # Step by step, since PyTorch's kernel has no bound: cap tanh(q k / cap), as in Gemma 2 (arXiv 2408.00118).
        scores = query @ key.transpose(2, 3) * (query.shape[3] ** -0.5 if scaling is None else scaling)
        scores = (softcap * torch.tanh(scores / softcap)).masked_fill(~mask, -torch.inf)
        # transformers' eager attention takes the softmax in float32, too.
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        output = functional.dropout(weights, dropout) @ value
    return output[0].transpose(0, 1)


def varlen(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """PyTorch's variable-length FlashAttention (GPU, 16-bit). Shapes as in :func:`by_sequence`."""
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, width, _size = query.shape
    groups = heads // key.shape[1]
    query, key, value = _flat(query, key, value)
    known = inspect.signature(varlen_attn).parameters
    # FlashAttention counts keys to the left of the query, transformers those with the query; -1 is no limit.
    window = -1 if sliding_window is None else sliding_window - 1
    options: dict[str, Any] = {"scale": scaling}
    # A window that ends at the query is causal; torch 2.11 and 2.13 differ in the argument for it.
    options |= {"window_size": (window, 0)} if "window_size" in known else {"is_causal": True}
    if sliding_window is not None and "window_size" not in known:
        raise ConfigError("this torch has no sliding window in variable-length attention; use trainer.attention=flex")
    if groups > 1 and "enable_gqa" in known:  # the kernel reads shared heads, without a copy for each query head
        options["enable_gqa"], groups = True, 1
    output: Any = varlen_attn(
        query,
        _shared(key, groups),
        _shared(value, groups),
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        **options,
    )
    return output.view(rows, width, heads, -1), None


def flash_attn(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """FlashAttention-2 (GPU, 16-bit). Shapes as in :func:`by_sequence`."""
    from flash_attn import flash_attn_varlen_func

    rows, heads, width, _size = query.shape
    output = flash_attn_varlen_func(
        *_flat(query, key, value),
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=True,
        # Keys to the left of the query, as in varlen; the kernel handles shared key and value heads.
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        softcap=softcap or 0.0,
    )
    return output.view(rows, width, heads, -1), None


for _name, _function in (("flash_attn", flash_attn), ("varlen", varlen), ("sequences", by_sequence)):
    AttentionInterface.register(BY_SEQUENCE[_name], divided(_function))
