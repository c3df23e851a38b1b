"""Memory of a forward and backward pass on one device, beside weights, gradients and optimiser states, by use.

On a GPU the numbers per token are those of a decoder layer with gated MLP under FSDP2 with FlashAttention. They were
fitted to FakeTensor counts of Qwen2 layers (tests/fake_memory.py), which they meet to the byte in what layers keep:
those of transformers, and those of Liger's kernels, which keep the inputs of norms and of gated MLPs alone.
"""

from __future__ import annotations

from collections.abc import Callable

from micota.config import TrainerConfig
from micota.sft.kinds import mixture_of
from micota.sft.shape import Shape

# float32 logits per chunk, by device (32 MiB and 512 MiB). On CPU a chunk stays in the cache between the passes over
# it; on GPU large products are faster.
CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**27}
DISTILLED_PART = 4  # a divergence from a teacher holds more tensors of that size at once: chunks are this part of it


def held(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    """Bytes at the peak of a micro-batch of ``num_tokens``, with a kind of activation checkpointing."""
    return (
        _on_gpu(shape, trainer, kind, num_tokens)
        if trainer.accelerator == "gpu"
        else _on_cpu(shape, trainer, kind, num_tokens)
    )


def _on_gpu(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    computed = 4 if trainer.precision == "32-true" else 2
    numbers = (_kept_by_liger, _again_by_liger) if trainer.kernels == "liger" else (_kept_on_gpu, _again_on_gpu)
    at_backward, kept = (num_tokens * count * computed for count in _of_layers(shape, kind, *numbers))
    # FSDP2 gathers two layers: the current and the next. An embedding that is the head too stays whole for the whole
    # pass; else each of both is gathered while it is used.
    per_layer, embedding = (shape.weights - shape.outside) // shape.num_layers, shape.outside - shape.head
    is_tied = embedding == 0
    head, trained = shape.head * shape.trains_head, per_layer * (shape.trained > shape.adapters)
    reduced = 4 if trainer.precision == "bf16-mixed" else computed  # gradients are summed in it
    layers_backward = at_backward + (trained + is_tied * head) * computed
    # The loss runs before: one chunk of logits in float32 and in the dtype of computation, the head's gradient in
    # float32, and hidden states with their gradients.
    states = kept + 6 * num_tokens * shape.hidden * computed
    loss = states + _of_chunk(shape, num_tokens, "cuda", computed) + 4 * head
    # Then the gradient of the head is cast, and summed at once, or, if it is the embedding too, at the end.
    if not is_tied and trainer.quantize == "none":
        # Over several devices the buffer of its all-gather stays until the next.
        gathered = shape.head * (2 if trainer.world_size > 1 else 1)
        summing = head * (computed + reduced * (1 + 1 / trainer.world_size))
        loss = max(loss + gathered * computed, states + summing)
    forward = kept + 2 * num_tokens * shape.hidden * computed + _of_teacher(shape, num_tokens, computed)
    after = (head if is_tied else embedding * (trained > 0)) * (computed + reduced)
    whole = is_tied * shape.outside + 2 * per_layer
    if trainer.quantize != "none":  # one product's weight is computed back at a time, and nothing is gathered
        whole = shape.hidden * shape.intermediate + shape.head * (trainer.precision == "bf16-mixed")
    return {
        "gathered weights": whole * computed,
        "activations": int(at_backward),
        "logits and gradients of a moment": int(max(layers_backward, loss, after, forward)) - int(at_backward),
    }


def generating(shape: Shape, trainer: TrainerConfig) -> dict[str, int]:
    """Bytes while the student samples answers, if it does, when no activations of training exist, by use."""
    if (answers := shape.answers) is None:
        return {}
    computed = 4 if trainer.precision == "32-true" else 2
    # A cache grows by half where it is full, so that a quarter of it is spare in the mean.
    cached = 1.25 * answers.rows * (answers.prompt_tokens + answers.most_tokens)
    return {
        "gathered weights": (shape.weights if trainer.is_sharded else 0) * computed,
        "cache of answers": int(cached * 2 * shape.key_value * shape.num_layers * computed),
        "prompts of answers": int(answers.rows * answers.prompt_tokens * _forward(shape) * computed),
    }


def _forward(shape: Shape) -> float:
    """The most numbers of a token in a forward pass without gradients: in the MLP, its input before and after the norm
    and as the residual, and three of its width."""
    return 4 * shape.hidden + 3 * shape.intermediate


def _of_teacher(shape: Shape, num_tokens: int, computed: int) -> int:
    """Bytes of the forward pass of the teacher, if there is one."""
    return 0 if shape.teacher is None else int(num_tokens * _forward(shape.teacher) * computed)


def _of_chunk(shape: Shape, num_tokens: int, device: str, computed: int) -> int:
    """Bytes of what the loss holds of a chunk of logits, in float32 and in the dtype of computation. With a teacher its
    final states of all tokens too."""
    logits = num_tokens * shape.head // shape.hidden
    if not shape.compared:
        return min(CHUNK_LOGITS[device], logits) * (4 + computed)
    chunk = min(CHUNK_LOGITS[device] // DISTILLED_PART, logits)
    states = 0 if shape.teacher is None else num_tokens * shape.teacher.hidden * computed
    return 4 * shape.compared * chunk + states


def _of_layers(
    shape: Shape, kind: str, kept: Callable[[Shape, str], float], again: Callable[[Shape, str], float]
) -> tuple[float, float]:
    """Numbers of a token in all layers, at the peak of the backward pass and before it.

    Args:
        kept: numbers that a layer keeps with a kind that is no mixture.
        again: numbers that exist while a layer with such a kind is in its backward pass.
    """
    mixture, adapters = mixture_of(kind), {name: n / shape.num_layers for name, n in shape.adapters_keep.items()}
    num_heavy = mixture.num_heavy(shape.num_layers)
    heavy, light = (kept(shape, each) + adapters.get(each, 0) for each in (mixture.heavy, mixture.light))
    of_heavy = num_heavy * heavy
    of_all = of_heavy + (shape.num_layers - num_heavy) * light
    # The last layer comes first. When one with the heavy kind computes again, those with the light kind are gone.
    of_last, of_first = (
        again(shape, each) + adapters.get("none", 0) * (each != "none") for each in (mixture.light, mixture.heavy)
    )
    return max(of_all + of_last, of_heavy + of_first), of_all


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


def _kept_by_liger(shape: Shape, kind: str) -> float:
    """none: as :func:`_kept_on_gpu` without the norms' inputs in float32, and three of the width of the MLP."""
    if kind != "none":
        return _kept_on_gpu(shape, kind)
    return 4 * shape.hidden + 3 * shape.intermediate + 2 * (shape.attention + shape.key_value)


def _again_by_liger(shape: Shape, kind: str) -> float:
    """As :func:`_again_on_gpu`; the gradients of an MLP's two inputs take the memory of these."""
    hidden, inner, heads = shape.hidden, shape.intermediate, 2 * (shape.attention + shape.key_value)
    kinds = {"none": 1.2 * hidden + inner, "selective": 3.2 * hidden + 2 * inner}
    return kinds.get(kind, 3.2 * hidden + 4 * inner + heads)


def _on_cpu(shape: Shape, trainer: TrainerConfig, kind: str, num_tokens: int) -> dict[str, int]:
    computed = 4 if trainer.precision == "32-true" else 2
    each, kept = _of_layers(shape, kind, _kept_on_cpu, _again_on_cpu)
    taught = kept * num_tokens * computed + _of_teacher(shape, num_tokens, computed)
    per_layer = (shape.weights - shape.outside) // shape.num_layers
    if trainer.is_sharded:  # weights outside of layers and of two layers (current and next), gradients of one
        cast = (shape.outside + 2 * per_layer) + (shape.outside + per_layer)
    elif trainer.precision == "bf16-mixed":  # of the current layer, or of all
        cast = shape.linear // (1 if kind == "none" else shape.num_layers) + shape.head
    else:
        cast = 0
    head = shape.head * 4 if trainer.is_sharded and shape.trains_head else 0
    return {
        "gathered or cast weights": cast * computed,
        "activations": int(max(num_tokens * each * computed, taught if shape.teacher else 0)),
        "logits of a chunk": _of_chunk(shape, num_tokens, "cpu", computed) + head,
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
