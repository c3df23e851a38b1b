"""A trained or merged model -> a Hugging Face folder that transformers and vLLM can load."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from micota.checkpoint import SHARD_BYTES, CheckpointWriter, Form
from micota.data.turns import end_of_turn
from micota.errors import ExportError
from micota.model_files import Location, write_config, write_generation_config, write_tokenizer


@dataclass(frozen=True)
class Weight:
    """A weight that is read just before it is written. If it is sharded, every rank must read it."""

    name: str
    form: Form
    read: Callable[[], torch.Tensor]


def export(
    model: Any, tokenizer: Any, folder: Path, source: Location | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write weights, configs and the tokenizer with its chat template; both configs name the tokenizer's eos and the
    end of a turn.

    Args:
        source: where the model was loaded from: its configs and tokenizer are kept as they are there.
        dtype: of the written weights; None keeps that of the model. The weights in memory change to it too.
    """
    if dtype is not None:
        model.to(dtype)
    # Its check refuses settings that the model was published with; the file of the source is written instead.
    generation_config, model.generation_config = model.generation_config, GenerationConfig()
    model.save_pretrained(folder)
    model.generation_config = generation_config
    export_settings(_settings(model, model.dtype), generation_config, tokenizer, folder, source)


def export_streamed(
    model: Any,
    tokenizer: Any,
    folder: Path,
    weights: Sequence[Weight],
    *,
    writes: bool,
    source: Location | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the files of :func:`export`, with only one weight in memory at a time.

    Args:
        source, dtype: as for :func:`export`.
        weights: the same on every rank; every rank must call this function.
        writes: whether this rank writes the files; exactly one rank does.
    """
    if not writes:
        for weight in weights:
            weight.read()
        return
    settings = _settings(model, dtype or model.dtype)
    export_settings(settings, model.generation_config, tokenizer, folder, source)
    forms = {weight.name: _form(weight.form, dtype) for weight in weights}
    with closing(CheckpointWriter(folder, forms, shard_bytes)) as writer:
        for weight in weights:
            writer.write(weight.name, 0, weight.read().detach().cpu().to(forms[weight.name].dtype).flatten())


def _form(form: Form, dtype: torch.dtype | None) -> Form:
    """The form of a written weight; one that is not of floats keeps its dtype."""
    return Form(form.shape, dtype) if dtype is not None and form.dtype.is_floating_point else form


def whole_weights(model: Any, whole: Callable[[torch.Tensor], torch.Tensor]) -> list[Weight]:
    """Every weight of a model; ``whole`` gathers a sharded one into a tensor."""
    return [Weight(name, form_of(weight), partial(whole, weight.detach())) for name, weight in named_weights(model)]


def form_of(weight: torch.Tensor) -> Form:
    """Shape and dtype of a tensor; of a sharded tensor, those of the whole."""
    return Form(tuple(weight.shape), weight.dtype)


def add_adapter(values: torch.Tensor, up: torch.Tensor, down: torch.Tensor, scale: float) -> torch.Tensor:
    """``W + s B A`` (LoRA, arXiv 2106.09685, equation 3): in float32, as peft's ``merge_and_unload``: the product
    of two bfloat16 matrices would be rounded before the sum.

    Args:
        values: W or rows of it, (rows, columns).
        up: the same rows of B, (rows, r), in float32.
        down: A, (r, columns), in float32.
        scale: s, ``alpha / r`` in the paper.
    """
    return values.float() + up @ down * scale


def rehearse(
    model: Any, tokenizer: Any, folder: Path, source: Location | None = None, dtype: torch.dtype | None = None
) -> None:
    """Before training, write all files of the export with one weight, read them back, and remove them.

    Raises:
        ExportError: a file differs after reading.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _rehearse(model, tokenizer, folder, source, dtype or model.dtype)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rehearse(model: Any, tokenizer: Any, folder: Path, source: Location | None, dtype: torch.dtype) -> None:
    export_settings(_settings(model, dtype), model.generation_config, tokenizer, folder, source)
    name, weight = min(named_weights(model), key=lambda item: item[1].numel())
    weight = torch.ones_like(weight, device="cpu") if weight.is_meta else weight  # its values are not loaded yet
    weight = weight.to(dtype)
    save_file({name: weight.detach().contiguous()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        same = torch.equal(file.get_tensor(name), weight.detach().cpu())
    checks = {
        "the weights": same,
        "the kind of model": config.model_type == model.config.model_type,
        "the eos of config.json": config.eos_token_id == model.generation_config.eos_token_id,
        "the eos of the tokenizer": again.eos_token_id == tokenizer.eos_token_id,
        "the chat template": again.chat_template == tokenizer.chat_template,
        "the vocabulary": again.get_vocab() == tokenizer.get_vocab(),  # ids too, which may have gaps
    }
    wrong = [what for what, right in checks.items() if not right]
    if wrong:
        raise ExportError(
            f"{folder}: {', '.join(wrong)} would not survive the export of this model; nothing was trained. Use "
            "a model whose tokenizer belongs to it"
        )


def export_settings(
    config: Any,
    generation_config: Any,
    tokenizer: Any,
    folder: Path,
    source: Location | None = None,
    tokenizer_source: Location | None = None,
) -> None:
    """Write all files of ``export`` except the weights. ``tokenizer_source`` is where the tokenizer was loaded from, if
    not at ``source``."""
    settle(config, generation_config, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, source, folder)
    write_generation_config(generation_config, source, folder)
    write_tokenizer(tokenizer, tokenizer_source or source, folder)


def settle(config: Any, generation_config: Any, tokenizer: Any) -> None:
    """Set eos and padding of both configs to those of the tokenizer, with the end of a turn, at which generation then
    stops."""
    known = generation_config.eos_token_id
    every = [tokenizer.eos_token_id, end_of_turn(tokenizer).id, *(known if isinstance(known, list) else [known])]
    eos = [token for token in dict.fromkeys(every) if token is not None]
    generation_config.eos_token_id = eos if len(eos) > 1 else eos[0]
    generation_config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = generation_config.eos_token_id
    config.use_cache = True


def _settings(model: Any, dtype: torch.dtype) -> Any:
    """The config as ``save_pretrained`` would write it: with the model's class, and the dtype of its weights."""
    written = str(dtype).removeprefix("torch.")
    fields = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": written}
    return type(model.config).from_dict(fields)


def named_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight once, under the name by which transformers saves it: tied ones have the first of their names."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    seen: set[int] = set()
    persistent = model.state_dict().keys()
    for name, weight in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):
        if name in persistent and name not in tied and id(weight) not in seen:
            seen.add(id(weight))
            yield name, weight
