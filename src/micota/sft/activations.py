"""Memory of a forward and backward pass on one device, beside weights, gradients and optimiser states, by use.

On a GPU the numbers per token are those of a decoder layer with gated MLP under FSDP2 with FlashAttention. They were
fitted to FakeTensor counts of Qwen2 layers (tests/fake_memory.py), which they meet to the byte in what layers keep.
"""

from __future__ import annotations

from collections.abc import Callable

from micota.config import TrainerConfig
from micota.sft.kinds import mixture_of
from micota.sft.shape import Shape

# float32 logits per chunk, by device (32 MiB and 512 MiB). On CPU a chunk stays in the cache between the passes over
# it; on GPU large products are faster.
CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**27}


def held(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    """Bytes at the peak of a micro-batch of ``num_tokens``, with a kind of activation checkpointing."""
    return (
        _on_gpu(shape, trainer, kind, num_tokens)
        if trainer.accelerator == "gpu"
        else _on_cpu(shape, trainer, kind, num_tokens)
    )


def _on_gpu(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    computed = 4 if trainer.precision == "32-true" else 2
    at_backward, kept = (
        num_tokens * count * computed for count in _of_layers(shape, kind, _kept_on_gpu, _again_on_gpu)
    )
    # FSDP2 gathers two layers: the current and the next. An embedding that is the head too stays whole for the whole
    # pass; else each of both is gathered while it is used.
    per_layer, embedding = (shape.weights - shape.outside) // shape.num_layers, shape.outside - shape.head
    is_tied = embedding == 0
    head, trained = shape.head * shape.trains_head, per_layer * (shape.trained > shape.adapters)
    reduced = 4 if trainer.precision == "bf16-mixed" else computed  # gradients are summed in it
    layers_backward = at_backward + (trained + is_tied * head) * computed
    # The loss runs before: one chunk of logits in float32 and in the dtype of computation, the head's gradient in
    # float32, and hidden states with their gradients.
    chunk = min(CHUNK_LOGITS["cuda"], num_tokens * shape.head // shape.hidden)
    states = kept + 6 * num_tokens * shape.hidden * computed
    loss = states + chunk * (4 + computed) + 4 * head
    # Then the gradient of the head is cast, and summed at once, or, if it is the embedding too, at the end.
    if not is_tied and trainer.quantize == "none":
        # Over several devices the buffer of its all-gather stays until the next.
        gathered = shape.head * (2 if trainer.world_size > 1 else 1)
        summing = head * (computed + reduced * (1 + 1 / trainer.world_size))
        loss = max(loss + gathered * computed, states + summing)
    after = (head if is_tied else embedding * (trained > 0)) * (computed + reduced)
    whole = is_tied * shape.outside + 2 * per_layer
    if trainer.quantize != "none":  # one product's weight is computed back at a time, and nothing is gathered
        whole = shape.hidden * shape.intermediate + shape.head * (trainer.precision == "bf16-mixed")
    return {
        "gathered weights": whole * computed,
        "activations": int(at_backward),
        "logits and gradients of a moment": int(max(layers_backward, loss, after)) - int(at_backward),
    }


def _of_layers(
    shape: Shape, kind: str, kept: Callable[[Shape, str], float], again: Callable[[Shape, str], float]
) -> tuple[float, float]:
    """Numbers of a token in all layers, at the peak of the backward pass and before it.

    Args:
        kept: numbers that a layer keeps with a kind that is no mixture.
        again: numbers that exist while a layer with such a kind is in its backward pass.
    """
    mixture = mixture_of(kind)
    num_heavy = mixture.num_heavy(shape.num_layers)
    of_heavy = num_heavy * kept(shape, mixture.heavy)
    of_all = of_heavy + (shape.num_layers - num_heavy) * kept(shape, mixture.light)
    # The last layer comes first. When one with the heavy kind computes again, those with the light kind are gone.
    return max(of_all + again(shape, mixture.light), of_heavy + again(shape, mixture.heavy)), of_all


def _kept_on_gpu(shape: Shape, kind: str) -> float:
    """none: inputs of two norms, in the dtype of computation and in float32, and of all products; queries, keys, values
    and the output of attention; four of the width of the MLP. selective: the input of the layer and the results of
    products and of attention. full: the input."""
    hidden, inner, heads = shape.hidden, shape.intermediate, 2 * (shape.attention + shape.key_value)
    kinds = {"none": 8 * hidden + 4 * inner + heads, "selective": 3 * hidden + 2 * inner + heads, "full": hidden}
    return kinds[kind]


def _again_on_gpu(shape: Shape, kind: str) -> float:
    """What is computed again in a layer, and the gradients within it."""
    hidden, inner = shape.hidden, shape.intermediate
    full = 13.5 * hidden + 6 * inner + 2 * shape.attention
    return {"none": 12.5 * hidden, "selective": 12.5 * hidden + 4 * inner, "full": full}[kind]


def _on_cpu(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    computed = 4 if trainer.precision == "32-true" else 2
    each, _ = _of_layers(shape, kind, _kept_on_cpu, _again_on_cpu)
    per_layer = (shape.weights - shape.outside) // shape.num_layers
    if trainer.is_sharded:  # weights outside of layers and of two layers (current and next), gradients of one
        cast = (shape.outside + 2 * per_layer) + (shape.outside + per_layer)
    elif trainer.precision == "bf16-mixed":  # of the current layer, or of all
        cast = shape.linear // (1 if kind == "none" else shape.num_layers) + shape.head
    else:
        cast = 0
    chunk = min(CHUNK_LOGITS["cpu"], num_tokens * shape.head // shape.hidden)
    head = shape.head * 4 if trainer.is_sharded and shape.trains_head else 0
    return {
        "gathered or cast weights": cast * computed,
        "activations": int(num_tokens * each * computed),
        "logits of a chunk": chunk * (4 + computed) + head,
    }


def _kept_on_cpu(shape: Shape, kind: str) -> float:
    """none: norms and residuals (in float32 within the norms of transformers' models), queries, keys and values before
    and after rotation, and four of the width of the MLP. With checkpointing, the input and what is kept."""
    if kind == "none":
        return 10 * shape.hidden + 6 * shape.attention + 4 * shape.intermediate
    products = 2 * shape.hidden + 4 * shape.attention + 2 * shape.intermediate if kind == "selective" else 0
    return shape.hidden + products


def _again_on_cpu(shape: Shape, kind: str) -> float:
    return 0 if kind == "none" else _kept_on_cpu(shape, "none")
